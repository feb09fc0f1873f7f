"""Deploy, update, roll back, undeploy: the DAGs' own tasks against real MLflow and the sandbox."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.sagemaker.account import BUCKET, IMAGE, Account
from tests.sagemaker.actions import deploy, undeploy
from tests.sagemaker.driver import Run


def test_the_whole_life(account: Account, versions: dict[str, str], endpoint: str) -> None:
    account.administer("calls", method="DELETE")
    run = deploy(endpoint, version=versions["one"], tags={"team": "a"})
    assert run.ok, run.error
    calls = account.administer("calls")
    assert calls.pop("sagemaker:DescribeEndpoint") >= 3
    assert calls == {
        "s3:PUT": 2, "s3:GET": 2, "s3:HEAD": 2, "s3:DELETE": 1,
        "sagemaker:DescribeModel": 1, "sagemaker:CreateModel": 1, "sagemaker:CreateEndpointConfig": 1,
        "sagemaker:CreateEndpoint": 1, "sagemaker:InvokeEndpoint": 1,
        "sagemaker:ListEndpointConfigs": 1, "sagemaker:ListModels": 1,
    }  # fmt: skip
    assert account.predict(endpoint) == ["one", "one"]
    record = run["publish"]
    assert record["details"] == {
        "region": "us-east-1", "account": "123456789012", "bucket": BUCKET,
        "mode": "realtime", "instance_type": "ml.m5.large", "instance_count": 1,
    }  # fmt: skip
    names = account.resources(endpoint)
    assert len(names["Models"]) == len(names["EndpointConfigs"]) == len(names["Objects"]) == 1
    assert names["Objects"][0].endswith("/model.tar.gz"), "the lock is given back"

    account.administer("calls", method="DELETE")
    assert deploy(endpoint, version=versions["one"]).ok
    calls = account.administer("calls")
    assert calls == {
        "s3:PUT": 1, "s3:GET": 1, "s3:DELETE": 1,  # the lock
        "s3:HEAD": 1,
        "sagemaker:DescribeEndpoint": 1, "sagemaker:DescribeModel": 1, "sagemaker:DescribeEndpointConfig": 1,
        "sagemaker:InvokeEndpoint": 1,
    }  # fmt: skip
    assert account.resources(endpoint) == names

    run = deploy(endpoint, version=versions["one"], tags={"team": "b"})
    assert run["plan"]["action"] == "none", "a tag rolls nothing"
    assert account.tags(endpoint)["team"] == "b"
    assert account.resources(endpoint) == names

    account.administer("calls", method="DELETE")
    run = deploy(endpoint, version=versions["two"], strategy={"canary": {"size": 20, "wait": 60}})
    assert run.ok, run.error
    calls = account.administer("calls")
    assert calls.pop("sagemaker:DescribeEndpoint") >= 4
    assert calls == {
        "s3:PUT": 2, "s3:GET": 2, "s3:HEAD": 1, "s3:DELETE": 1,
        "sagemaker:DescribeModel": 1, "sagemaker:CreateModel": 1,
        "sagemaker:DescribeEndpointConfig": 2, "sagemaker:CreateEndpointConfig": 1,
        "sagemaker:ListTags": 2, "sagemaker:AddTags": 2, "sagemaker:UpdateEndpoint": 1, "sagemaker:InvokeEndpoint": 1,
        "sagemaker:ListEndpointConfigs": 1, "sagemaker:ListModels": 1,
    }  # fmt: skip
    assert account.predict(endpoint) == ["two", "two"]
    tags = account.tags(endpoint)
    assert (tags["team"], tags["slipway:version"]) == ("b", versions["two"]), "tags survive, and say what serves"

    planned = deploy(endpoint, version=versions["three"], dry_run=True).xcoms["plan"]["plan"]["changes"]
    assert planned[-1] == "Remove: nothing."
    run = deploy(endpoint, rollback=True, image=None)
    assert run.ok, run.error
    assert run["publish"]["version"] == versions["one"]
    assert account.predict(endpoint) == ["one", "one"]
    account.administer("calls", method="DELETE")
    run = deploy(endpoint, rollback=True, image=None)
    assert run["publish"]["version"] == versions["two"], "what served before the rollback"
    calls = account.administer("calls")
    assert calls.pop("sagemaker:DescribeEndpoint") >= 4
    assert calls == {
        "s3:PUT": 1, "s3:GET": 1, "s3:HEAD": 1, "s3:DELETE": 1,
        "sagemaker:DescribeModel": 2, "sagemaker:DescribeEndpointConfig": 3,
        "sagemaker:ListTags": 3, "sagemaker:AddTags": 2, "sagemaker:UpdateEndpoint": 1, "sagemaker:InvokeEndpoint": 1,
        "sagemaker:ListEndpointConfigs": 2, "sagemaker:ListModels": 1,
    }  # fmt: skip

    account.administer("calls", method="DELETE")
    run = undeploy(endpoint)
    assert run.ok, run.error
    calls = account.administer("calls")
    assert calls.pop("sagemaker:DescribeEndpoint") >= 3
    assert calls == {
        "s3:PUT": 1, "s3:GET": 1, "s3:DELETE": 1,
        "sagemaker:ListTags": 3, "sagemaker:DeleteEndpoint": 1, "sagemaker:ListModels": 1,
        "sagemaker:ListEndpointConfigs": 1, "sagemaker:DeleteEndpointConfig": 2, "sagemaker:DeleteModel": 2,
        "application-autoscaling:DescribeScalingPolicies": 1, "application-autoscaling:DescribeScalableTargets": 1,
    }  # fmt: skip
    left = account.resources(endpoint)
    assert left.pop("Objects"), "the model data stays"
    assert not any(left.values()), left
    again = undeploy(endpoint)
    assert "is not deployed" in again.error
    assert not again.states.get("forget")


@pytest.mark.parametrize("version", ["broken", "liar"])
def test_a_failing_update_leaves_what_served(
    account: Account, versions: dict[str, str], endpoint: str, version: str
) -> None:
    assert deploy(endpoint, version=versions["one"]).ok
    before = account.resources(endpoint)
    run = deploy(endpoint, version=versions[version])
    expected = "another planet" if version == "broken" else "golden sample"
    assert expected in run.error
    assert account.predict(endpoint) == ["one", "one"]
    assert account.resources(endpoint) == before
    assert undeploy(endpoint, delete_data=True).ok
    assert not any(account.resources(endpoint).values())


def cancelled(endpoint: str, version: str, meanwhile: Callable[[], object] = lambda: None) -> Run:
    """A deploy that is cancelled while it waits for the endpoint."""
    conf = {"model": "echo", "endpoint": endpoint, "image": IMAGE, "version": version}
    return Run("deploy_sagemaker", conf, cancelled="endpoint", meanwhile=meanwhile).go()


def test_a_deploy_that_is_cancelled_while_it_waits_leaves_nothing(
    account: Account, versions: dict[str, str], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SLIPWAY__KILL_SECONDS", "0")
    account.administer("settings", {"provision_seconds": 1})
    run = cancelled(endpoint, versions["one"])
    assert (run.states["restore"], run.states["unlock"]) == ("success", "success")
    assert run.states["outcome"] == "failed", "a run that was cancelled is no success"
    assert not any(account.resources(endpoint).values())

    assert deploy(endpoint, version=versions["one"]).ok
    before = account.resources(endpoint)
    run = cancelled(endpoint, versions["two"])
    assert run.states["restore"] == "success"
    assert account.resources(endpoint) == before
    assert account.predict(endpoint) == ["one", "one"]
    assert undeploy(endpoint, delete_data=True).ok


def test_a_lock_stays_where_nothing_could_be_restored_and_the_next_run_takes_it_over(
    account: Account, versions: dict[str, str], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SLIPWAY__KILL_SECONDS", "0")
    fault = {"operation": "sagemaker:DeleteEndpoint", "error": "AccessDeniedException"}
    run = cancelled(endpoint, versions["one"], lambda: account.administer("faults", [fault]))
    assert run.states["restore"] == "failed"
    assert f"slipway/{endpoint}/lock" in account.resources(endpoint)["Objects"]
    account.administer("faults", [])
    second = deploy(endpoint, "second", version=versions["two"])
    assert second.ok, second.error
    assert second["lock"] == {"clean": False}

    # Cleared after the other run has begun, the first one's restore has nothing to say any more.
    owner = json.dumps({"owner": "deploy_sagemaker/third"})
    account.s3.put_object(Bucket=BUCKET, Key=f"slipway/{endpoint}/lock", Body=owner)
    del run.states["restore"], run.states["unlock"]
    run.go()
    assert run["restore"] == "Run deploy_sagemaker/third changes the endpoint by now: nothing is undone."
    assert account.predict(endpoint) == ["two", "two"]
    assert f"slipway/{endpoint}/lock" in account.resources(endpoint)["Objects"], "nor is the other's lock given back"
    account.s3.delete_object(Bucket=BUCKET, Key=f"slipway/{endpoint}/lock")
    assert undeploy(endpoint, delete_data=True).ok
