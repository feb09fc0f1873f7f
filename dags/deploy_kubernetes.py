"""Deploy a registered model version to an endpoint on a Kubernetes cluster, in a container image of its own."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.ending import OutcomeOperator
from slipway.operators.endpoints import SwitchOperator
from slipway.operators.images import EnsureImageOperator
from slipway.operators.kubernetes import KubernetesDeployOperator, KubernetesRestoreOperator
from slipway.operators.publish import PublishOperator
from slipway.operators.resolve import ResolveVersionOperator
from slipway.operators.verify import VerifyOperator

with DAG(
    dag_id="deploy_kubernetes",
    dag_display_name="Deploy to Kubernetes",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "version": lifecycle.version_param(),
        "alias": lifecycle.alias_param(),
        "endpoint": lifecycle.endpoint_param(),
        "kubernetes_conn_id": lifecycle.connection_param("kubernetes_default", "Kubernetes Cluster Connection"),
        "namespace": lifecycle.text_param("Namespace", "Where to deploy. Empty: the connection's namespace."),
        "replicas": Param(
            1,
            title="Replicas",
            description_md="Pods that serve the endpoint.",
            type="integer",
            minimum=1,
            maximum=1000,
        ),
        "resources": Param(
            None,
            title="Resources",
            description_md="Of each pod, such as "
            '`{"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}`.',
            type=["null", "object"],
        ),
        "autoscaling": Param(
            None,
            title="Autoscaling",
            description_md='In place of replicas: `{"min_replicas": 2, "max_replicas": 10, "cpu_percent": 80}`.',
            type=["null", "object"],
        ),
        "ingress": Param(
            None,
            title="Ingress",
            description_md="A host name for clients outside: "
            '`{"host": "churn.example.com", "class_name": "nginx", "tls_secret": "churn-tls"}`.',
            type=["null", "object"],
        ),
        "image": lifecycle.text_param(
            "Image", "An image with the model inside. Empty: one is built, if it is not there."
        ),
        "registry": lifecycle.text_param(
            "Registry", "Where the cluster pulls from: `ecr`, `acr`, or the id of a docker connection."
        ),
        "repository": lifecycle.text_param("Repository", "Without the registry's host. Empty: `slipway/<model>`."),
        "image_pull_secret": lifecycle.text_param(
            "Image pull secret", "Name of the secret with the registry's login in the namespace, if it asks for one."
        ),
        **lifecycle.image_params(),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    choices = ("namespace", "replicas", "resources", "autoscaling", "ingress", "image", "image_pull_secret")
    resolve = ResolveVersionOperator(
        task_id="resolve",
        target="kubernetes",
        conn_id="{{ params.kubernetes_conn_id }}/{{ params.namespace or '' }}",
        model=dag.param("model"),
        version=dag.param("version"),
        alias=dag.param("alias"),
        endpoint=dag.param("endpoint"),
        options={name: dag.param(name) for name in choices},
    )
    image = EnsureImageOperator(
        task_id="image",
        plan=resolve.output,
        image=dag.param("image"),
        registry=dag.param("registry"),
        repository=dag.param("repository"),
        include_model=True,
        base_image=dag.param("base_image"),
        platform=dag.param("platform"),
        docker_conn_id=dag.param("docker_conn_id"),
    )
    deploy = KubernetesDeployOperator(task_id="deploy", plan=resolve.output, image=image.output)
    verify = VerifyOperator(task_id="verify", plan=resolve.output)
    switch = SwitchOperator(task_id="switch", plan=resolve.output)
    publish = PublishOperator(task_id="publish", plan=resolve.output, deployed=deploy.output)
    restore = KubernetesRestoreOperator(task_id="restore", plan=resolve.output)
    outcome = OutcomeOperator(task_id="outcome", plan=resolve.output)

    resolve >> image >> deploy >> verify >> switch >> publish
    publish >> restore.as_teardown(setups=image)
    restore >> outcome.as_teardown(setups=image, on_failure_fail_dagrun=True)
