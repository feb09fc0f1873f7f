"""Endpoints from Creating to gone, as unmodified boto3 sees them; the servers are processes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from slipway_sandbox.aws.server import Sandbox
from slipway_sandbox.aws.settings import Place
from tests.model_host.hosts import ModelMaker
from tests.sandbox_aws.cloud import (
    BUCKET,
    administer,
    client,
    create_config,
    create_model,
    settled,
    upload_model,
    wait_for,
)

BODY = json.dumps({"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}})


@pytest.fixture(scope="module")
def sandbox(models: ModelMaker, environments: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with Sandbox(Place(tmp_path_factory.mktemp("aws"), environments, containers=False)) as sandbox:
        for name in ("one", "two", "broken"):
            create_model(sandbox, name, upload_model(sandbox, models.make(name).folder, f"{name}.tar.gz"))
            create_config(sandbox, name)
        yield sandbox


@pytest.fixture
def sagemaker(sandbox: Sandbox) -> Any:
    return client(sandbox, "sagemaker")


@pytest.fixture
def endpoint(sandbox: Sandbox, sagemaker: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """An endpoint that serves model `one`, named after the test."""
    name = re.sub("[^a-z]+", "-", request.node.name)[:60].strip("-")
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName="one")
    assert settled(sandbox, name)["EndpointStatus"] == "InService"
    yield name
    settled(sandbox, name)
    sagemaker.delete_endpoint(EndpointName=name)


def answer(sandbox: Sandbox, endpoint: str, body: str = BODY, **options: Any) -> Any:
    runtime = client(sandbox, "sagemaker-runtime")
    found = runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **{"ContentType": "application/json", **options})
    return json.loads(found["Body"].read())["predictions"]


def error(call: Any, **params: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**params)
    return str(caught.value)


def test_an_endpoint_is_created_serves_and_goes(sandbox: Sandbox, sagemaker: Any) -> None:
    administer(sandbox, "settings", {"provision_seconds": 0.3})
    sagemaker.create_endpoint(EndpointName="first", EndpointConfigName="one", Tags=[{"Key": "a", "Value": "b"}])
    found = sagemaker.describe_endpoint(EndpointName="first")
    assert found["EndpointStatus"] == "Creating"
    assert "ProductionVariants" not in found
    assert "in-progress" in error(sagemaker.delete_endpoint, EndpointName="first")
    assert "not found" in error(client(sandbox, "sagemaker-runtime").invoke_endpoint, EndpointName="first", Body=b"")
    administer(sandbox, "settings", {"provision_seconds": 0})
    found = settled(sandbox, "first")
    assert found["EndpointStatus"] == "InService"
    assert found["ProductionVariants"][0]["CurrentInstanceCount"] == 1
    assert answer(sandbox, "first") == ["one", "one"]
    assert answer(sandbox, "first", "a\n1\n", ContentType="text/csv") == ["one"]
    assert sagemaker.list_tags(ResourceArn=found["EndpointArn"])["Tags"] == [{"Key": "a", "Value": "b"}]
    assert "in use" in error(sagemaker.delete_endpoint_config, EndpointConfigName="one")
    sagemaker.delete_endpoint(EndpointName="first")
    wait_for(lambda: [e["EndpointName"] for e in sagemaker.list_endpoints()["Endpoints"]], lambda names: not names)
    assert "Could not find endpoint" in error(sagemaker.describe_endpoint, EndpointName="first")


def test_a_container_that_does_not_answer_ping_fails_with_its_log_in_cloudwatch(
    sandbox: Sandbox, sagemaker: Any
) -> None:
    sagemaker.create_endpoint(EndpointName="sick", EndpointConfigName="broken")
    found = settled(sandbox, "sick")
    assert found["EndpointStatus"] == "Failed"
    assert "did not pass the ping health check" in found["FailureReason"]
    logs = client(sandbox, "logs")
    (stream,) = logs.describe_log_streams(logGroupName="/aws/sagemaker/Endpoints/sick")["logStreams"]
    events = logs.get_log_events(logGroupName="/aws/sagemaker/Endpoints/sick", logStreamName=stream["logStreamName"])
    assert "another planet" in " ".join(event["message"] for event in events["events"])
    assert "Failed" in error(sagemaker.update_endpoint, EndpointName="sick", EndpointConfigName="one")
    sagemaker.delete_endpoint(EndpointName="sick")


@pytest.mark.parametrize(
    "routing",
    [
        None,
        {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 10},
        {"Type": "CANARY", "WaitIntervalInSeconds": 30, "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 30}},
        {"Type": "LINEAR", "WaitIntervalInSeconds": 10, "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25}},
    ],
    ids=["plain", "at-once", "canary", "linear"],
)
def test_an_update_loses_no_request(sandbox: Sandbox, sagemaker: Any, endpoint: str, routing: Any) -> None:
    policy = {"BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": routing}} if routing else None
    stop, seen, failures = threading.Event(), [], []

    def ask() -> None:
        while not stop.is_set():
            try:
                seen.append(answer(sandbox, endpoint)[0])
            except ClientError as e:
                failures.append(str(e))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    more = {"DeploymentConfig": policy} if policy else {}
    sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName="two", **more)
    found = sagemaker.describe_endpoint(EndpointName=endpoint)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", "one")
    assert "in-progress" in error(sagemaker.update_endpoint, EndpointName=endpoint, EndpointConfigName="one")
    found = settled(sandbox, endpoint)
    stop.set()
    for thread in threads:
        thread.join()
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "two")
    assert failures == []
    assert seen[0] == "one"
    assert answer(sandbox, endpoint) == ["two", "two"]
    if routing and routing["Type"] != "ALL_AT_ONCE":
        changes = sum(a != b for a, b in pairwise(seen))
        assert changes > 1, "both served at the same time"


def test_an_update_that_fails_goes_back_and_says_why(sandbox: Sandbox, sagemaker: Any, endpoint: str) -> None:
    sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName="broken")
    found = settled(sandbox, endpoint)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "one")
    assert "ping health check" in found["FailureReason"]
    assert answer(sandbox, endpoint) == ["one", "one"]

    administer(sandbox, "settings", {"outcomes": {endpoint: {"outcome": "silent_rollback"}}})
    sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName="two")
    found = settled(sandbox, endpoint)
    administer(sandbox, "settings", {"outcomes": {}})
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", "one")
    assert "FailureReason" not in found


def test_an_alarm_rolls_an_update_back(sandbox: Sandbox, sagemaker: Any, endpoint: str) -> None:
    cloudwatch = client(sandbox, "cloudwatch")
    cloudwatch.put_metric_alarm(
        AlarmName="errors", Namespace="AWS/SageMaker", MetricName="Invocation5XXErrors", Statistic="Sum", Period=60,
        EvaluationPeriods=1, Threshold=1, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    policy = {
        "BlueGreenUpdatePolicy": {
            "TrafficRoutingConfiguration": {
                "Type": "CANARY",
                "WaitIntervalInSeconds": 3600,
                "CanarySize": {"Type": "CAPACITY_PERCENT", "Value": 50},
            }
        },
        "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
    }
    short = {"BlueGreenUpdatePolicy": {**policy["BlueGreenUpdatePolicy"], "MaximumExecutionTimeoutInSeconds": 3600}}
    unknown = {**policy, "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "nothing"}]}}
    update = {"EndpointName": endpoint, "EndpointConfigName": "two"}
    assert "does not exist" in error(sagemaker.update_endpoint, **update, DeploymentConfig=unknown)
    assert "larger than the total waiting time" in error(sagemaker.update_endpoint, **update, DeploymentConfig=short)
    sagemaker.update_endpoint(**update, DeploymentConfig=policy)
    wait_for(lambda: answer(sandbox, endpoint)[0], lambda seen: seen == "two")
    cloudwatch.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    found = settled(sandbox, endpoint)
    assert found["EndpointConfigName"] == "one"
    assert "errors went into ALARM" in found["FailureReason"]


def test_what_an_update_retains(sandbox: Sandbox, sagemaker: Any, endpoint: str) -> None:
    capture = {
        "EnableCapture": True, "InitialSamplingPercentage": 100, "DestinationS3Uri": f"s3://{BUCKET}/captured",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
    }  # fmt: skip
    three = {"InstanceType": "ml.m5.large", "InitialInstanceCount": 3}
    client(sandbox, "s3").put_object(Bucket=BUCKET, Key="x", Body=b"")
    for name, more in (("captured", {"DataCaptureConfig": capture}), ("plain", {})):
        sagemaker.create_endpoint_config(
            EndpointConfigName=f"{endpoint[:40]}-{name}", **more,
            ProductionVariants=[{"VariantName": "AllTraffic", "ModelName": "two", **three}],
        )  # fmt: skip
    sagemaker.update_endpoint(EndpointName=endpoint, EndpointConfigName=f"{endpoint[:40]}-captured")
    found = settled(sandbox, endpoint)
    assert found["ProductionVariants"][0]["DesiredInstanceCount"] == 3
    assert found["DataCaptureConfig"]["CurrentSamplingPercentage"] == 100
    assert answer(sandbox, endpoint) == ["two", "two"]
    prefix = f"captured/{endpoint}/AllTraffic/"
    listed = client(sandbox, "s3").list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]
    event = json.loads(client(sandbox, "s3").get_object(Bucket=BUCKET, Key=listed[0]["Key"])["Body"].read())
    assert event["captureData"]["endpointInput"]["data"] == BODY
    assert json.loads(event["captureData"]["endpointOutput"]["data"])["predictions"] == ["two", "two"]

    sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=endpoint,
        DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 7}],
    )
    retain = {"EndpointName": endpoint, "EndpointConfigName": f"{endpoint[:40]}-plain"}
    sagemaker.update_endpoint(**retain, RetainAllVariantProperties=True)
    found = settled(sandbox, endpoint)
    assert found["ProductionVariants"][0]["DesiredInstanceCount"] == 7
    assert "DataCaptureConfig" not in found, "which is always the configuration's"
    unsupported = {"RetainAllVariantProperties": True,
                   "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DataCaptureConfig"}]}  # fmt: skip
    assert "not currently supported" in error(sagemaker.update_endpoint, **retain, **unsupported)
    excluded = [{"VariantPropertyType": "DesiredInstanceCount"}]
    sagemaker.update_endpoint(**retain, RetainAllVariantProperties=True, ExcludeRetainedVariantProperties=excluded)
    found = settled(sandbox, endpoint)
    assert found["ProductionVariants"][0]["DesiredInstanceCount"] == 3

    scaling = client(sandbox, "application-autoscaling")
    target = {"ServiceNamespace": "sagemaker", "ResourceId": f"endpoint/{endpoint}/variant/AllTraffic",
              "ScalableDimension": "sagemaker:variant:DesiredInstanceCount"}  # fmt: skip
    scaling.register_scalable_target(**target, MinCapacity=1, MaxCapacity=4)
    create_config(sandbox, f"{endpoint[:40]}-other", model="two",
                  variant={"InstanceType": "ml.c5.large", "InitialInstanceCount": 1})  # fmt: skip
    other = {"EndpointName": endpoint, "EndpointConfigName": f"{endpoint[:40]}-other"}
    assert "must be deregistered as scalable targets" in error(sagemaker.update_endpoint, **other)
    scaling.deregister_scalable_target(**target)
