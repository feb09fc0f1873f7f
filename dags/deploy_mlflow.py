"""Deploy a registered model version to an endpoint on the model host."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.ending import OutcomeOperator
from slipway.operators.endpoints import RestoreOperator, SwitchOperator
from slipway.operators.model_host import ModelHostDeployOperator
from slipway.operators.publish import PublishOperator
from slipway.operators.resolve import ResolveVersionOperator
from slipway.operators.verify import VerifyOperator

with DAG(
    dag_id="deploy_mlflow",
    dag_display_name="Deploy to MLflow",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "version": lifecycle.version_param(),
        "alias": lifecycle.alias_param(),
        "endpoint": lifecycle.endpoint_param(),
        "auth": Param(
            "none",
            title="Authentication",
            description_md="`token`: the endpoint asks for a bearer token of its own.",
            enum=["none", "token"],
        ),
        "workers": Param(
            1,
            title="Workers",
            description_md="Processes that serve the endpoint.",
            type="integer",
            minimum=1,
            maximum=64,
        ),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    resolve = ResolveVersionOperator(
        task_id="resolve",
        target="mlflow",
        conn_id="model_host_default",
        model=dag.param("model"),
        version=dag.param("version"),
        alias=dag.param("alias"),
        endpoint=dag.param("endpoint"),
        options={"auth": dag.param("auth"), "workers": dag.param("workers")},
    )
    deploy = ModelHostDeployOperator(task_id="deploy", plan=resolve.output)
    verify = VerifyOperator(task_id="verify", plan=resolve.output)
    switch = SwitchOperator(task_id="switch", plan=resolve.output)
    publish = PublishOperator(task_id="publish", plan=resolve.output, deployed=deploy.output)
    restore = RestoreOperator(task_id="restore", plan=resolve.output)
    outcome = OutcomeOperator(task_id="outcome", plan=resolve.output)

    resolve >> deploy >> verify >> switch >> publish
    publish >> restore.as_teardown(setups=resolve)
    restore >> outcome.as_teardown(setups=resolve, on_failure_fail_dagrun=True)
