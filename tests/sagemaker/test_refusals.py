"""What is wrong is said in one sentence; what passes is tried again; a dry run touches nothing."""

from __future__ import annotations

from typing import Any

import pytest

from tests.sagemaker.account import Account
from tests.sagemaker.actions import deploy, undeploy


@pytest.mark.parametrize(
    ("conf", "said"),
    [
        ({"mode": "fast"}, "mode.type: Input should be 'realtime' or 'serverless'"),
        ({"instance_type": "m5.large"}, "instance_type: String should match"),
        ({"strategy": "canary", "size": 80}, "size 80 does not go with canary"),
        ({"mode": "serverless", "vpc": {"subnets": ["a"], "security_groups": ["b"]}}, "goes without vpc"),
        ({"region": "eu-nowhere-1"}, "There is no SageMaker in region 'eu-nowhere-1'"),
        ({"aws_id": "12"}, "give the 12 digits"),
        ({"arn": "arn:aws:iam::999999999999:role/x"}, "give the ARN of a role in account 123456789012"),
        ({"version": "99"}, "has no version '99'"),
        ({"rollback": True, "image": None}, "does not exist on sagemaker, so there is nothing to roll back"),
        ({"rollback": True, "image": None, "instance_count": 2, "kms": "k"}, "leave instance_count and kms out of the"),
        ({"strategy": "linear", "size": 10, "wait": 3600}, "strategy: the roll-out would wait 36000 s in all"),
    ],
)
def test_a_wrong_conf_is_refused_before_anything_is_touched(
    account: Account, versions: dict[str, str], endpoint: str, conf: dict[str, Any], said: str
) -> None:
    run = deploy(endpoint, **conf)
    assert said in run.error
    assert run.error.startswith(("resolve:", "plan:"))
    assert not any(account.resources(endpoint).values())


@pytest.mark.parametrize(
    ("conf", "faults", "said"),
    [
        ({"instance_type": "ml.nothing.large"}, [], "give an instance_type that SageMaker has"),
        ({"arn": "arn:aws:iam::123456789012:role/nobody"}, [], "create the role that mlops.arn names"),
        ({"bucket": "no-such-bucket"}, [], "there is no such bucket: create it, or name another one in Variable"),
        ({"instance_type": "ml.p4d.24xlarge"}, [], "The account's quota does not allow to create endpoint"),
        ({"alarms": ["nothing"]}, [], ""),
        (
            {},
            [{"operation": "sagemaker:CreateModel", "error": "AccessDeniedException"}],
            "AWS does not let connection 'aws_default' create model",
        ),
        (
            {},
            [{"operation": "sagemaker:DescribeEndpoint", "error": "UnrecognizedClientException"}],
            "does not know the credentials of connection 'aws_default'",
        ),
    ],
)
def test_what_aws_refuses_is_one_sentence_and_leaves_nothing(
    account: Account,
    versions: dict[str, str],
    endpoint: str,
    conf: dict[str, Any],
    faults: list[dict[str, Any]],
    said: str,
) -> None:
    account.administer("settings", {"quota": {"ml.p4d.24xlarge": 0}})
    account.administer("faults", faults)
    run = deploy(endpoint, version=versions["one"], **conf)
    account.administer("faults", [])
    if not said:  # a new endpoint has no roll-out that could ask for alarms
        assert run.ok, run.error
        undeploy(endpoint, delete_data=True)
    else:
        assert said in run.error
        assert "\n" not in run.error
    left = account.resources(endpoint)
    assert not any(left.values()), left


def test_throttled_calls_are_repeated_with_pauses(account: Account, versions: dict[str, str], endpoint: str) -> None:
    account.administer("faults", [{"operation": "sagemaker:*", "error": "ThrottlingException", "times": 3}])
    run = deploy(endpoint, version=versions["one"])
    assert run.ok, run.error
    assert account.administer("faults")[0]["times"] == 0
    assert undeploy(endpoint, delete_data=True).ok


def test_a_dry_run_says_what_would_be_done_and_touches_nothing(
    account: Account, versions: dict[str, str], endpoint: str
) -> None:
    account.administer("calls", method="DELETE")
    run = deploy(endpoint, version=versions["one"], dry_run=True, instance_count=2)
    assert run.ok, run.error
    assert account.administer("calls") == {"sagemaker:DescribeEndpoint": 1, "s3:HEAD": 1}
    said = run.xcoms["plan"]["plan"]["changes"]
    assert any("2 × ml.m5.large" in line for line in said)
    assert any(line.startswith(f"Create endpoint '{endpoint}'") for line in said)
    assert run.states["endpoint"] == run.states["publish"] == "skipped"
    assert not any(account.resources(endpoint).values())


def test_strangers_endpoints_are_left_alone(account: Account, versions: dict[str, str], endpoint: str) -> None:
    assert deploy(endpoint, version=versions["one"]).ok
    name = account.describe(endpoint)["EndpointConfigName"]
    other = f"{endpoint}-x"
    account.sagemaker.create_endpoint(EndpointName=other, EndpointConfigName=name)
    account.settled(other)
    assert "was not made by Slipway" in deploy(other, version=versions["one"], instance_count=2).error
    assert "was not made by Slipway" in undeploy(other).error
    account.sagemaker.delete_endpoint(EndpointName=other)
    assert undeploy(endpoint, delete_data=True).ok
