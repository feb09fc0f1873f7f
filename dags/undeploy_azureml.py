"""Take an endpoint out of Azure Machine Learning: its deployments, then itself."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.azureml_live import AzureMLUndeployOperator
from slipway.operators.publish import ForgetOperator
from slipway.operators.resolve import ResolveDeploymentOperator

with DAG(
    dag_id="undeploy_azureml",
    dag_display_name="Undeploy from AzureML",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "endpoint": lifecycle.endpoint_param(),
        "assets": Param(
            False,
            title="Remove assets",
            description_md="Remove the model's assets from the workspace, too. Images and environments stay.",
            type="boolean",
        ),
    },
    **lifecycle.CLOUD_DAG_DEFAULTS,
) as dag:
    resolve = ResolveDeploymentOperator(
        task_id="resolve",
        target="azureml",
        conn_id="azureml_default",
        model=dag.param("model"),
        endpoint=dag.param("endpoint"),
    )
    undeploy = AzureMLUndeployOperator(task_id="undeploy", plan=resolve.output, assets=dag.param("assets"))
    forget = ForgetOperator(task_id="forget", plan=resolve.output)

    resolve >> undeploy >> forget
