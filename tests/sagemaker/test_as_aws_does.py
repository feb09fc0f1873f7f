"""What AWS does and a lenient double does not: late reads, long roll-outs, autoscaling that stands in the way."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway.errors import Unavailable, UserError
from slipway.hooks.sagemaker import SageMakerEndpointHook
from slipway.hooks.sagemaker_errors import translated
from tests.sagemaker.account import BUCKET, IMAGE, Account
from tests.sagemaker.actions import deploy, undeploy
from tests.sagemaker.driver import Run


def test_late_reads_are_tried_again_and_slow_roll_outs_are_waited_for(
    account: Account, versions: dict[str, str], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.administer("settings", {"stale_reads": 1})
    account.administer("calls", method="DELETE")
    run = deploy(endpoint, version=versions["one"])
    assert run.ok, run.error
    calls = account.administer("calls")
    assert (calls["sagemaker:CreateEndpointConfig"], calls["sagemaker:CreateEndpoint"]) == (2, 2)

    monkeypatch.setenv("AIRFLOW__SLIPWAY__READY_TIMEOUT_SECONDS", "1")
    run = deploy(endpoint, version=versions["two"], strategy={"linear": {"size": 25, "wait": 60}})
    assert run.ok, run.error
    assert account.administer("calls")["sagemaker:UpdateEndpoint"] == 2
    policy = account.describe(endpoint)["LastDeploymentConfig"]["BlueGreenUpdatePolicy"]
    assert policy["MaximumExecutionTimeoutInSeconds"] == 600 + 4 * 60
    assert undeploy(endpoint, delete_data=True).ok


def scaled(account: Account, endpoint: str) -> tuple[int, int] | None:
    resource = f"endpoint/{endpoint}/variant/AllTraffic"
    found = account.scaling.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[resource])
    return next(((one["MinCapacity"], one["MaxCapacity"]) for one in found["ScalableTargets"]), None)


def scaling_calls(account: Account) -> dict[str, int]:
    """How often each operation of application autoscaling was called since this was asked last."""
    calls = account.administer("calls", method="DELETE")
    return {name.partition(":")[2]: n for name, n in calls.items() if name.startswith("application-autoscaling:")}


def test_the_instance_type_of_an_endpoint_that_scales_is_changed(
    account: Account, versions: dict[str, str], endpoint: str
) -> None:
    account.administer("calls", method="DELETE")
    run = deploy(endpoint, version=versions["one"], autoscaling={"min": 1, "max": 4, "target": 50})
    assert run.ok, run.error
    assert scaling_calls(account) == {"RegisterScalableTarget": 1, "PutScalingPolicy": 1}
    run = deploy(endpoint, version=versions["one"], instance_type="ml.c5.large")
    assert run.ok, run.error
    assert scaling_calls(account) == {
        "DescribeScalableTargets": 2, "DescribeScalingPolicies": 3,
        "DeleteScalingPolicy": 1, "DeregisterScalableTarget": 1, "RegisterScalableTarget": 1, "PutScalingPolicy": 1,
    }  # fmt: skip
    assert run["publish"]["details"]["instance_type"] == "ml.c5.large"
    assert scaled(account, endpoint) == (1, 4)
    assert len(account.resources(endpoint)["Policies"]) == 1
    assert "slipway:autoscaling" not in account.tags(endpoint)

    before = account.resources(endpoint)
    run = deploy(endpoint, version=versions["liar"], instance_type="ml.m5.xlarge")
    assert "golden sample" in run.error
    assert run.states["restore"] == "success"
    assert account.resources(endpoint) == before
    assert (scaled(account, endpoint), account.predict(endpoint)) == ((1, 4), ["one", "one"])

    # A run that was killed for good while the autoscaling was away: the next one gives it back.
    arn = account.describe(endpoint)["EndpointArn"]
    held = {"Key": "slipway:autoscaling", "Value": "1 4 50.0"}
    account.sagemaker.add_tags(ResourceArn=arn, Tags=[held])
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/AllTraffic",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    account.scaling.delete_scaling_policy(**target, PolicyName=before["Policies"][0])
    account.scaling.deregister_scalable_target(**target)
    lock = json.dumps({"owner": "deploy_sagemaker/gone"})
    account.s3.put_object(Bucket=BUCKET, Key=f"slipway/{endpoint}/lock", Body=lock)
    run = deploy(endpoint, version=versions["one"], instance_type="ml.c5.large")
    assert run["plan"]["action"] == "none", run.error
    assert (scaled(account, endpoint), account.resources(endpoint)) == ((1, 4), before)
    assert "slipway:autoscaling" not in account.tags(endpoint)

    run = deploy(endpoint, version=versions["one"], instance_type="ml.c5.large", autoscaling="off")
    assert run.ok, run.error
    assert scaled(account, endpoint) is None
    assert undeploy(endpoint, delete_data=True).ok
    assert not any(account.resources(endpoint).values())


def test_a_rollback_goes_by_what_was_stored_and_captured_data_stays_encrypted(
    account: Account, versions: dict[str, str], endpoint: str
) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
    capture = {"percentage": 50, "s3_uri": f"s3://{BUCKET}/kept", "kms": key}
    assert deploy(endpoint, version=versions["one"], data_capture=capture, instance_type="ml.c5.large").ok
    assert deploy(endpoint, version=versions["two"]).ok
    assert account.describe(endpoint)["DataCaptureConfig"]["KmsKeyId"] == key
    account.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}],
    )
    old = deploy(endpoint, version=versions["two"])
    run = deploy(endpoint, rollback=True, image=None)
    assert run.ok, run.error
    details = run["publish"]["details"]
    assert (details["instance_type"], details["instance_count"]) == ("ml.c5.large", 3)

    # The task of a run that had nothing to do, cleared when something else serves.
    del old.states["endpoint"]
    old.first_try = 2
    old.go()
    assert "does not serve" in old.error
    assert undeploy(endpoint, delete_data=True).ok


def test_a_rollback_of_a_serverless_endpoint_asks_for_no_fleets(
    account: Account, versions: dict[str, str], endpoint: str
) -> None:
    for version in ("one", "two"):
        assert deploy(endpoint, version=versions[version], mode="serverless").ok
    run = deploy(endpoint, rollback=True, image=None)
    assert run.ok, run.error
    assert run["publish"]["details"]["mode"] == "serverless"
    assert "LastDeploymentConfig" not in account.describe(endpoint)
    assert undeploy(endpoint, delete_data=True).ok


def test_an_endpoint_that_failed_when_it_was_created_is_nothing_to_go_back_to(
    account: Account, versions: dict[str, str], endpoint: str
) -> None:
    """Its run was killed for good; the next one fails too, and leaves nothing."""
    assert deploy(endpoint, version=versions["one"]).ok
    found = account.describe(endpoint)
    account.sagemaker.delete_endpoint(EndpointName=endpoint)
    while account.resources(endpoint)["Endpoints"]:
        pass
    account.administer("settings", {"outcomes": {endpoint: {"outcome": "fail"}}})
    tags = [{"Key": "slipway:endpoint", "Value": endpoint}, {"Key": "slipway:model", "Value": "echo"}]
    account.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=found["EndpointConfigName"], Tags=tags)
    assert account.settled(endpoint)["EndpointStatus"] == "Failed"
    conf = {"model": "echo", "endpoint": endpoint, "image": IMAGE, "version": versions["two"]}
    run = Run("deploy_sagemaker", conf).go()
    assert run["plan"]["serving"] is None
    assert "could not be created" in run.error
    assert run.states["restore"] == "success"
    assert not account.resources(endpoint)["Endpoints"]
    assert undeploy(endpoint, delete_data=True).ok


def test_an_image_that_answers_otherwise_is_told_in_one_sentence() -> None:
    hook = SageMakerEndpointHook()
    body = SimpleNamespace(read=lambda: b"[0, 1]")
    hook.__dict__["_runtime"] = SimpleNamespace(invoke_endpoint=lambda **_: {"Body": body})
    with pytest.raises(UserError, match="is not what Slipway's scoring server answers"):
        hook.invoke("any", {})


@pytest.mark.parametrize(
    ("code", "message", "kind", "said"),
    [
        ("InvalidSignatureException", "Signature expired: 20261122T is now earlier", UserError, "set its clock"),
        ("RequestTimeTooSkewed", "The difference is too large", UserError, "set its clock"),
        ("LimitExceededException", "Targets per account", UserError, "account's quota"),
        ("ThrottlingException", "Rate exceeded", Unavailable, "throttles"),
    ],
)
def test_what_an_error_means(code: str, message: str, kind: type[Exception], said: str) -> None:
    response: Any = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    with pytest.raises(kind, match=said), translated("do this", "aws_default"):
        raise ClientError(response, "Any")
