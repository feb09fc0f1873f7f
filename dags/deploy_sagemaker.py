"""Deploy a registered model version to a SageMaker endpoint: create it, or update it in place."""

from __future__ import annotations

from airflow.sdk import DAG, Param, XComArg

from slipway import lifecycle
from slipway.operators.ending import OutcomeOperator
from slipway.operators.images import EnsureImageOperator
from slipway.operators.publish import PublishOperator
from slipway.operators.sagemaker import (
    SageMakerConfigOperator,
    SageMakerModelDataOperator,
    SageMakerModelOperator,
    SageMakerPlanOperator,
    SageMakerPruneOperator,
    SageMakerResolveOperator,
    SageMakerScalingOperator,
    SageMakerVerifyOperator,
)
from slipway.operators.sagemaker_endpoint import SageMakerEndpointOperator, SageMakerRestoreOperator
from slipway.operators.sagemaker_lock import SageMakerLockOperator, SageMakerUnlockOperator

_OPTIONS = {
    "image": lifecycle.text_param("Image", "An image in ECR. Empty: the model's own, built if it is not there."),
    "instance_type": Param(
        "ml.m5.large", title="Instance type", description_md="Of a real-time endpoint.", type="string", minLength=1
    ),
    "instance_count": Param(
        None,
        title="Instances",
        description_md="Empty: as many as the endpoint has, or one.",
        type=["null", "integer"],
        minimum=1,
    ),
    "mode": Param(
        "realtime",
        title="Mode",
        description_md="`realtime` (instances) or `serverless` (paid by the request).",
        type=["string", "object"],
        examples=["realtime", "serverless"],
    ),
    "memory": Param(
        None, title="Memory", description_md="Of a serverless endpoint, in MB: 1024 to 6144.", type=["null", "integer"]
    ),
    "max_concurrency": Param(
        None,
        title="Concurrency",
        description_md="Most requests at a time of a serverless endpoint.",
        type=["null", "integer"],
    ),
    "strategy": Param(
        "all_at_once",
        title="Strategy",
        description_md="How an update moves the traffic: `all_at_once`, `canary` or `linear`.",
        type=["string", "object"],
        examples=["all_at_once", "canary", "linear"],
    ),
    "size": Param(
        None, title="Step", description_md="Of canary and linear: percent of the traffic.", type=["null", "integer"]
    ),
    "wait": Param(None, title="Wait", description_md="Seconds after each step.", type=["null", "integer"]),
    "alarms": Param(
        [],
        title="Alarms",
        description_md="CloudWatch alarms that roll an update back.",
        type="array",
        items={"type": "string"},
    ),
    "autoscaling": Param(
        None,
        title="Autoscaling",
        description_md='`{"min": 1, "max": 4, "target": 1000}`: invocations a minute and instance. `"off"`: none. '
        "Empty: as it is.",
        type=["null", "object", "string", "boolean"],
    ),
    "data_capture": Param(
        None,
        title="Data capture",
        description_md='`{"percentage": 10, "s3_uri": "s3://…"}`. Empty: as it is.',
        type=["null", "object"],
    ),
    "environment": Param({}, title="Environment", description_md="Variables of the container.", type="object"),
    "vpc": Param(
        None,
        title="VPC",
        description_md='`{"subnets": ["…"], "security_groups": ["…"]}`',
        type=["null", "object"],
    ),
    "kms": lifecycle.text_param("KMS key", "Encrypts the model data, the instances' disks and captured data."),
    "tags": Param({}, title="Tags", description_md="Added to the endpoint's tags.", type="object"),
}

_PLACE = {
    "region": lifecycle.text_param("Region", "Empty: Variable `mlops.region`."),
    "aws_id": lifecycle.text_param("Account", "Empty: Variable `mlops.aws_id`."),
    "arn": lifecycle.text_param("Role", "ARN that SageMaker takes. Empty: Variable `mlops.arn`."),
    "bucket": lifecycle.text_param(
        "Bucket", "For the model data. Empty: Variable `mlops.bucket`, else `sagemaker-<region>-<account>`."
    ),
}

with DAG(
    dag_id="deploy_sagemaker",
    dag_display_name="Deploy to SageMaker",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "version": lifecycle.version_param(),
        "alias": lifecycle.alias_param(),
        "endpoint": lifecycle.endpoint_param(),
        **_OPTIONS,
        **_PLACE,
        "rollback": Param(
            False, title="Roll back", description_md="Deploy again what served before this.", type="boolean"
        ),
        "dry_run": Param(False, title="Dry run", description_md="Only say what would be done.", type="boolean"),
    },
    **lifecycle.CLOUD_DAG_DEFAULTS,
) as dag:
    resolve = SageMakerResolveOperator(
        task_id="resolve",
        conn_id="aws_default",
        model=dag.param("model"),
        version=dag.param("version"),
        alias=dag.param("alias"),
        endpoint=dag.param("endpoint"),
        options={name: dag.param(name) for name in _OPTIONS},
        place={name: dag.param(name) for name in _PLACE},
        preview=dag.param("dry_run"),
        rollback=dag.param("rollback"),
    )
    lock = SageMakerLockOperator(task_id="lock", plan=resolve.output)
    plan = SageMakerPlanOperator(task_id="plan", plan=resolve.output, lock=lock.output)
    image = EnsureImageOperator(
        task_id="image",
        plan=plan.output,
        image=XComArg(plan, key="image"),
        registry="ecr:{{ ti.xcom_pull(task_ids='plan')['place']['region'] }}",
    )
    data = SageMakerModelDataOperator(task_id="model_data", plan=plan.output)
    model = SageMakerModelOperator(task_id="model", plan=plan.output, image=image.output, data=data.output)
    config = SageMakerConfigOperator(task_id="config", plan=plan.output)
    endpoint = SageMakerEndpointOperator(task_id="endpoint", plan=plan.output, image=image.output, config=config.output)
    verify = SageMakerVerifyOperator(task_id="verify", plan=plan.output)
    scaling = SageMakerScalingOperator(task_id="autoscaling", plan=plan.output)
    publish = PublishOperator(task_id="publish", plan=plan.output, deployed=endpoint.output)
    prune = SageMakerPruneOperator(task_id="prune", plan=plan.output, lock=lock.output)
    restore = SageMakerRestoreOperator(task_id="restore", plan=plan.output, data=data.output)
    unlock = SageMakerUnlockOperator(task_id="unlock", plan=resolve.output, restored=restore.output)
    outcome = OutcomeOperator(task_id="outcome", plan=resolve.output)

    resolve >> lock >> plan >> image >> data >> model >> config >> endpoint >> verify >> scaling >> publish >> prune
    prune >> restore.as_teardown(setups=lock) >> unlock.as_teardown(setups=lock)
    restore >> outcome.as_teardown(setups=lock, on_failure_fail_dagrun=True)
