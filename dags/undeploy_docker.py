"""Take an endpoint off a Docker Engine."""

from __future__ import annotations

from airflow.sdk import DAG

from slipway import lifecycle
from slipway.operators.endpoints import UndeployOperator
from slipway.operators.publish import ForgetOperator
from slipway.operators.resolve import ResolveDeploymentOperator

with DAG(
    dag_id="undeploy_docker",
    dag_display_name="Undeploy from Docker",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "endpoint": lifecycle.endpoint_param(),
        "docker_conn_id": lifecycle.engine_param(),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    resolve = ResolveDeploymentOperator(
        task_id="resolve",
        target="docker",
        conn_id=dag.param("docker_conn_id"),
        model=dag.param("model"),
        endpoint=dag.param("endpoint"),
    )
    undeploy = UndeployOperator(task_id="undeploy", plan=resolve.output)
    forget = ForgetOperator(task_id="forget", plan=resolve.output)

    resolve >> undeploy >> forget
