"""Take an endpoint off a Kubernetes cluster: all that bears its labels, and nothing else."""

from __future__ import annotations

from airflow.sdk import DAG

from slipway import lifecycle
from slipway.operators.endpoints import UndeployOperator
from slipway.operators.publish import ForgetOperator
from slipway.operators.resolve import ResolveDeploymentOperator

with DAG(
    dag_id="undeploy_kubernetes",
    dag_display_name="Undeploy from Kubernetes",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "endpoint": lifecycle.endpoint_param(),
        "kubernetes_conn_id": lifecycle.connection_param("kubernetes_default", "Kubernetes Cluster Connection"),
        "namespace": lifecycle.text_param("Namespace", "Where the endpoint is. Empty: the connection's namespace."),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    resolve = ResolveDeploymentOperator(
        task_id="resolve",
        target="kubernetes",
        conn_id="{{ params.kubernetes_conn_id }}/{{ params.namespace or '' }}",
        model=dag.param("model"),
        endpoint=dag.param("endpoint"),
    )
    undeploy = UndeployOperator(task_id="undeploy", plan=resolve.output)
    forget = ForgetOperator(task_id="forget", plan=resolve.output)

    resolve >> undeploy >> forget
