"""Deploy a registered model version to an endpoint on a Docker Engine."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.docker import DockerDeployOperator, DockerRestoreOperator, DockerRetireOperator
from slipway.operators.ending import OutcomeOperator
from slipway.operators.endpoints import SwitchOperator
from slipway.operators.images import EnsureImageOperator
from slipway.operators.publish import PublishOperator
from slipway.operators.resolve import ResolveVersionOperator
from slipway.operators.verify import VerifyOperator

with DAG(
    dag_id="deploy_docker",
    dag_display_name="Deploy to Docker",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "version": lifecycle.version_param(),
        "alias": lifecycle.alias_param(),
        "endpoint": lifecycle.endpoint_param(),
        **lifecycle.image_params(),
        "port": Param(
            None,
            title="Port",
            description_md="Where the engine's machine publishes the endpoint. Empty: one of its own, always the same.",
            type=["null", "integer"],
            minimum=1,
            maximum=65535,
        ),
        "cpus": Param(
            None, title="CPUs", description_md="Such as `0.5`. Empty: no limit.", type=["null", "number"], minimum=0.01
        ),
        "memory": lifecycle.text_param("Memory", "Such as `512m` or `2g`. Empty: no limit."),
        "env": Param(
            None,
            title="Environment",
            description_md='Variables of the scoring server, such as `{"SLIPWAY_SCORING_WORKERS": "2"}`; no secrets.',
            type=["null", "object"],
        ),
        "image": lifecycle.text_param("Image", "An image of yours with the model inside. Empty: it is built."),
        "registry": lifecycle.text_param(
            "Registry",
            "`ecr`, `acr` or a docker connection that the image goes through. Empty: it is built on the engine itself.",
        ),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    resolve = ResolveVersionOperator(
        task_id="resolve",
        target="docker",
        conn_id=dag.param("docker_conn_id"),
        model=dag.param("model"),
        version=dag.param("version"),
        alias=dag.param("alias"),
        endpoint=dag.param("endpoint"),
        options={name: dag.param(name) for name in ("port", "cpus", "memory", "env", "image")},
    )
    image = EnsureImageOperator(
        task_id="image",
        plan=resolve.output,
        image=dag.param("image"),
        registry=dag.param("registry"),
        base_image=dag.param("base_image"),
        platform=dag.param("platform"),
        docker_conn_id=dag.param("docker_conn_id"),
        include_model=True,
    )
    deploy = DockerDeployOperator(
        task_id="deploy", plan=resolve.output, image=image.output, registry=dag.param("registry")
    )
    verify = VerifyOperator(task_id="verify", plan=resolve.output)
    switch = SwitchOperator(task_id="switch", plan=resolve.output)
    publish = PublishOperator(task_id="publish", plan=resolve.output, deployed=deploy.output)
    retire = DockerRetireOperator(task_id="retire", plan=resolve.output)
    restore = DockerRestoreOperator(task_id="restore", plan=resolve.output)
    outcome = OutcomeOperator(task_id="outcome", plan=resolve.output)

    resolve >> image >> deploy >> verify >> switch >> publish >> retire
    retire >> restore.as_teardown(setups=image)
    restore >> outcome.as_teardown(setups=image, on_failure_fail_dagrun=True)
