"""Updates in place: what survives them, what rolls them back, and two at once."""

from __future__ import annotations

import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from tests.sagemaker.account import BUCKET, IMAGE, Account
from tests.sagemaker.actions import deploy, undeploy
from tests.sagemaker.driver import Run


def test_data_capture_and_autoscaling_survive_an_update_that_does_not_mention_them(
    account: Account, versions: dict[str, str], endpoint: str
) -> None:
    capture = {"percentage": 100, "s3_uri": f"s3://{BUCKET}/captured"}
    scaling = {"min": 1, "max": 4, "target": 50}
    run = deploy(endpoint, version=versions["one"], data_capture=capture, autoscaling=scaling, instance_count=2)
    assert run.ok, run.error
    account.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 3}],
    )
    run = deploy(endpoint, version=versions["two"])
    assert run.ok, run.error
    found = account.describe(endpoint)
    assert found["ProductionVariants"][0]["DesiredInstanceCount"] == 3
    assert found["DataCaptureConfig"]["DestinationS3Uri"] == capture["s3_uri"]
    assert account.predict(endpoint) == ["two", "two"]
    prefix = f"captured/{endpoint}/"
    kept = [one["Key"] for one in account.s3.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]]
    events = [json.load(account.s3.get_object(Bucket=BUCKET, Key=key)["Body"]) for key in kept]
    assert any("two" in event["captureData"]["endpointOutput"]["data"] for event in events)
    assert len(account.resources(endpoint)["Policies"]) == 1

    # A failing deploy that changes the autoscaling leaves it as it was.
    changed = {"min": 2, "max": 9, "target": 5}
    account.administer("faults", [{"operation": "application-autoscaling:PutScalingPolicy", "times": 1,
                                   "error": "AccessDeniedException"}])  # fmt: skip
    run = deploy(endpoint, version=versions["three"], autoscaling=changed)
    assert "does not let connection" in run.error
    (target,) = account.scaling.describe_scalable_targets(
        ServiceNamespace="sagemaker", ResourceIds=[f"endpoint/{endpoint}/variant/AllTraffic"]
    )["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 4)
    assert account.predict(endpoint) == ["two", "two"]
    assert undeploy(endpoint, delete_data=True).ok
    assert not any(account.resources(endpoint).values())


def test_keys_networks_and_variables_reach_sagemaker(account: Account, versions: dict[str, str], endpoint: str) -> None:
    key = "arn:aws:kms:us-east-1:123456789012:key/12345678-1234-1234-1234-123456789012"
    vpc = {"subnets": ["subnet-0a1b2c3d"], "security_groups": ["sg-0a1b2c3d"]}
    run = deploy(
        endpoint, version=versions["one"], kms=key, vpc=vpc, environment={"OMP_NUM_THREADS": "2"}, tags={"team": "risk"}
    )
    assert run.ok, run.error
    config = account.sagemaker.describe_endpoint_config(
        EndpointConfigName=account.describe(endpoint)["EndpointConfigName"]
    )
    assert config["KmsKeyId"] == key
    model = account.sagemaker.describe_model(ModelName=config["ProductionVariants"][0]["ModelName"])
    assert model["VpcConfig"] == {"Subnets": vpc["subnets"], "SecurityGroupIds": vpc["security_groups"]}
    assert model["PrimaryContainer"]["Environment"]["OMP_NUM_THREADS"] == "2"
    arn = account.describe(endpoint)["EndpointArn"]
    tags = {tag["Key"]: tag["Value"] for tag in account.sagemaker.list_tags(ResourceArn=arn)["Tags"]}
    assert tags["team"] == "risk"
    bucket, _, path = model["PrimaryContainer"]["ModelDataUrl"].removeprefix("s3://").partition("/")
    assert account.s3.head_object(Bucket=bucket, Key=path)["SSEKMSKeyId"] == key
    assert account.predict(endpoint) == ["one", "one"]
    assert undeploy(endpoint, delete_data=True).ok
    assert not any(account.resources(endpoint).values())


def test_a_silent_roll_back_is_a_failure(account: Account, versions: dict[str, str], endpoint: str) -> None:
    assert deploy(endpoint, version=versions["one"]).ok
    account.administer("settings", {"outcomes": {endpoint: {"outcome": "silent_rollback"}}})
    run = deploy(endpoint, version=versions["two"])
    assert "SageMaker rolled back to" in run.error
    assert "which serves on (SageMaker gives no reason);" in run.error, "the log is of what serves on"
    assert account.predict(endpoint) == ["one", "one"]
    assert undeploy(endpoint, delete_data=True).ok


def test_an_alarm_rolls_a_canary_back_and_no_request_fails(
    account: Account, versions: dict[str, str], endpoint: str
) -> None:
    assert deploy(endpoint, version=versions["one"]).ok
    cloudwatch = account.client("cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName=endpoint, Namespace="AWS/SageMaker", MetricName="Invocation5XXErrors", Statistic="Sum", Period=60,
        EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    stop, answers, failures = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(account.predict(endpoint)[0])
            except ClientError as e:
                failures.append(str(e))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        with ThreadPoolExecutor(1) as pool:
            strategy = {"type": "canary", "size": 50, "wait": 3600, "alarms": [endpoint]}
            going = pool.submit(deploy, endpoint, version=versions["two"], strategy=strategy)
            deadline = time.monotonic() + 120
            while "two" not in answers:
                assert time.monotonic() < deadline
                assert not going.done(), going.result().error
                time.sleep(0.05)
            cloudwatch.set_alarm_state(AlarmName=endpoint, StateValue="ALARM", StateReason="a test")
            run = going.result()
        assert "went into ALARM" in run.error
        cloudwatch.set_alarm_state(AlarmName=endpoint, StateValue="OK", StateReason="a test")
        run = deploy(endpoint, version=versions["two"], strategy="linear", size=50, wait=30)
        assert run.ok, run.error
    finally:
        stop.set()
        for client in clients:
            client.join()
    assert failures == []
    assert answers[-1] == "two" == account.predict(endpoint)[0]
    assert undeploy(endpoint, delete_data=True).ok


def test_a_serverless_endpoint(account: Account, versions: dict[str, str], endpoint: str) -> None:
    run = deploy(endpoint, version=versions["one"], mode="serverless", memory=3072, max_concurrency=4)
    assert run.ok, run.error
    assert run["publish"]["details"]["memory_mb"] == 3072
    assert account.predict(endpoint) == ["one", "one"]
    assert deploy(endpoint, version=versions["two"], mode={"serverless": {"memory": 3072}}).ok
    assert account.predict(endpoint) == ["two", "two"]
    assert deploy(endpoint, version=versions["two"]).ok, "it may come to run on instances"
    assert "cannot make it serverless" in deploy(endpoint, version=versions["one"], mode="serverless").error
    assert undeploy(endpoint, delete_data=True).ok


def test_a_second_deploy_waits_for_the_first(account: Account, versions: dict[str, str], endpoint: str) -> None:
    account.administer("settings", {"provision_seconds": 2})
    account.administer("calls", method="DELETE")
    conf = {"model": "echo", "endpoint": endpoint, "image": IMAGE}
    first, second = (
        Run("deploy_sagemaker", {**conf, "version": versions[v]}, v, alive={f"deploy_sagemaker/{o}"})
        for v, o in (("one", "two"), ("two", "one"))
    )
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(first.go)
        while account.administer("calls").get("sagemaker:CreateEndpoint", 0) == 0:
            time.sleep(0.05)
        waiting = pool.submit(second.go)
        assert running.result().ok, first.error
        assert waiting.result().ok, second.error
    assert second["plan"]["serving"] == first["plan"]["name"], "it looked when the first was done"
    assert account.predict(endpoint) == ["two", "two"]
    account.administer("settings", {"provision_seconds": 0})

    # A lock whose run is over is taken over.
    account.s3.put_object(
        Bucket=BUCKET, Key=f"slipway/{endpoint}/lock", Body=json.dumps({"owner": "deploy_sagemaker/gone"})
    )
    run = undeploy(endpoint, delete_data=True)
    assert run.ok, run.error
    assert run["lock"] == {"clean": False}
    assert not any(account.resources(endpoint).values())


@pytest.mark.parametrize("name", ["a" * 63])
def test_the_longest_endpoint_name(account: Account, versions: dict[str, str], name: str) -> None:
    run = deploy(name, version=versions["one"])
    assert run.ok, run.error
    assert len(run["plan"]["name"]) <= 63
    assert undeploy(name, delete_data=True).ok
