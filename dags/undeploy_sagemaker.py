"""Remove a SageMaker endpoint with all that was made for it; the model data stays unless it is asked for."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.ending import OutcomeOperator
from slipway.operators.publish import ForgetOperator
from slipway.operators.sagemaker import SageMakerResolveDeploymentOperator
from slipway.operators.sagemaker_endpoint import SageMakerUndeployOperator
from slipway.operators.sagemaker_lock import SageMakerLockOperator, SageMakerUnlockOperator

_PLACE = {
    "region": lifecycle.text_param("Region", "Empty: Variable `mlops.region`."),
    "aws_id": lifecycle.text_param("Account", "Empty: Variable `mlops.aws_id`."),
    "bucket": lifecycle.text_param(
        "Bucket", "Of the model data. Empty: Variable `mlops.bucket`, else `sagemaker-<region>-<account>`."
    ),
}

with DAG(
    dag_id="undeploy_sagemaker",
    dag_display_name="Undeploy from SageMaker",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "endpoint": lifecycle.endpoint_param(),
        "delete_data": Param(
            False, title="Delete the data", description_md="Remove the model data from S3 too.", type="boolean"
        ),
        **_PLACE,
    },
    **lifecycle.CLOUD_DAG_DEFAULTS,
) as dag:
    resolve = SageMakerResolveDeploymentOperator(
        task_id="resolve",
        conn_id="aws_default",
        model=dag.param("model"),
        endpoint=dag.param("endpoint"),
        place={name: dag.param(name) for name in _PLACE},
    )
    lock = SageMakerLockOperator(task_id="lock", plan=resolve.output)
    undeploy = SageMakerUndeployOperator(task_id="undeploy", plan=resolve.output, delete_data=dag.param("delete_data"))
    forget = ForgetOperator(task_id="forget", plan=resolve.output)
    unlock = SageMakerUnlockOperator(task_id="unlock", plan=resolve.output)
    outcome = OutcomeOperator(task_id="outcome", plan=resolve.output)

    resolve >> lock >> undeploy >> forget
    forget >> unlock.as_teardown(setups=lock) >> outcome.as_teardown(setups=lock, on_failure_fail_dagrun=True)
