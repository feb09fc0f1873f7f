"""Deploy a registered model version to a managed online endpoint in AzureML, beside what serves there."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.azureml import AzureMLCheckOperator, AzureMLDeployOperator
from slipway.operators.azureml_live import AzureMLRestoreOperator, AzureMLRetireOperator, AzureMLShiftOperator
from slipway.operators.ending import OutcomeOperator
from slipway.operators.images import EnsureImageOperator
from slipway.operators.publish import PublishOperator
from slipway.operators.resolve import ResolveVersionOperator
from slipway.operators.verify import VerifyOperator

with DAG(
    dag_id="deploy_azureml",
    dag_display_name="Deploy to AzureML",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "version": lifecycle.version_param(),
        "alias": lifecycle.alias_param(),
        "endpoint": lifecycle.endpoint_param(),
        "image": lifecycle.text_param(
            "Image",
            "Reference of a scoring image. Empty: the one of the model's environment, built if not there.",
        ),
        "registry": Param(
            "acr",
            title="Registry",
            description_md="Where the scoring image is: `acr`, or a docker connection.",
            type="string",
            minLength=1,
        ),
        "instance_type": Param(
            "Standard_DS3_v2",
            title="Instance type",
            description_md="Size of the machines, such as `Standard_DS3_v2`.",
            type="string",
            pattern="^Standard_[A-Za-z0-9_]+$",
        ),
        "instance_count": Param(
            1,
            title="Instances",
            description_md="How many machines serve the deployment.",
            type="integer",
            minimum=1,
            maximum=100,
        ),
        "auth_mode": Param(
            "key",
            title="Authentication",
            description_md="What requests carry: the endpoint's `key`, or a token of Microsoft Entra ID (`aad_token`).",
            enum=["key", "aad_token"],
        ),
        "traffic": Param(
            {"steps": [10, 50, 100], "wait": 60, "mirror": 0},
            title="Traffic",
            description_md="Percentages that the new deployment gets, each held for `wait` seconds. "
            "`mirror`: percentage of the requests that it gets a copy of first.",
            type="object",
        ),
        "identity": lifecycle.text_param(
            "Endpoint identity",
            "Resource id of the user-assigned identity that a new endpoint pulls the image with. Empty: its own one.",
        ),
        "autoscaling": Param(
            None,
            title="Autoscaling",
            description_md='Between how many instances Azure scales by CPU, such as `{"min": 1, "max": 4, "cpu": 70}`.',
            type=["null", "object"],
        ),
        "environment": Param(
            None,
            title="Environment variables",
            description_md="Variables of the scoring server, by name.",
            type=["null", "object"],
            additionalProperties={"type": "string"},
        ),
        "tags": Param(
            None,
            title="Tags",
            description_md="Further tags of the endpoint and the deployment, by name. Changing them replaces nothing.",
            type=["null", "object"],
            additionalProperties={"type": "string"},
        ),
        "dry_run": Param(
            False,
            title="Dry run",
            description_md="Check everything, say what would change, and change nothing.",
            type="boolean",
        ),
    },
    **lifecycle.CLOUD_DAG_DEFAULTS,
) as dag:
    resolve = ResolveVersionOperator(
        task_id="resolve",
        target="azureml",
        conn_id="azureml_default",
        model=dag.param("model"),
        version=dag.param("version"),
        alias=dag.param("alias"),
        endpoint=dag.param("endpoint"),
        options={
            "image": dag.param("image"),
            "instance_type": dag.param("instance_type"),
            "instance_count": dag.param("instance_count"),
            "auth_mode": dag.param("auth_mode"),
            "autoscaling": dag.param("autoscaling"),
            "environment": dag.param("environment"),
        },
        further={"tags": dag.param("tags"), "identity": dag.param("identity")},
    )
    check = AzureMLCheckOperator(
        task_id="check", plan=resolve.output, traffic=dag.param("traffic"), dry=dag.param("dry_run")
    )
    image = EnsureImageOperator(
        task_id="image", plan=resolve.output, registry=dag.param("registry"), image=dag.param("image")
    )
    deploy = AzureMLDeployOperator(
        task_id="deploy", plan=resolve.output, image=image.output, traffic=dag.param("traffic")
    )
    verify = VerifyOperator(task_id="verify", plan=resolve.output)
    switch = AzureMLShiftOperator(task_id="switch", plan=resolve.output, traffic=dag.param("traffic"))
    publish = PublishOperator(task_id="publish", plan=resolve.output, deployed=deploy.output)
    retire = AzureMLRetireOperator(task_id="retire", plan=resolve.output)
    restore = AzureMLRestoreOperator(task_id="restore", plan=resolve.output)
    outcome = OutcomeOperator(task_id="outcome", plan=resolve.output)

    resolve >> check >> image >> deploy >> verify >> switch >> publish >> retire
    retire >> restore.as_teardown(setups=check)
    restore >> outcome.as_teardown(setups=check, on_failure_fail_dagrun=True)
