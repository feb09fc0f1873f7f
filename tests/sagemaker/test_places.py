"""An endpoint stays where it was deployed, whatever the Variables and the conf say later."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from slipway.domain import DeploymentRecord
from slipway.web.page.endpoint import health, try_it
from tests.sagemaker.account import BUCKET, IMAGE, Account
from tests.sagemaker.actions import deploy, undeploy
from tests.sagemaker.conftest import SAMPLE
from tests.sagemaker.driver import Run

ELSEWHERE = "eu-west-1"


def test_another_region_in_the_variables_moves_nothing(
    account: Account, versions: dict[str, str], endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = "slipway-own-data"
    account.s3.create_bucket(Bucket=own)
    run = deploy(endpoint, version=versions["one"], bucket=own)
    assert run.ok, run.error
    details = run["publish"]["details"]
    assert (details["region"], details["account"], details["bucket"]) == ("us-east-1", "123456789012", own)

    monkeypatch.setenv("AIRFLOW_VAR_MLOPS.REGION", ELSEWHERE)
    record = DeploymentRecord.model_validate({**run["publish"], "samples": None, "deployed_at": datetime.now(UTC)})
    assert health(record, "aws_default").state == "well"
    assert json.loads(try_it(record, "aws_default", json.dumps(SAMPLE)).predictions) == ["one", "one"]
    again = deploy(endpoint, version=versions["one"])
    assert again["plan"]["action"] == "none", again.error
    for action in (deploy, undeploy):
        for name, other in (("region", ELSEWHERE), ("aws_id", "999999999999"), ("bucket", BUCKET)):
            said = action(endpoint, **{name: other}).error
            assert f"is deployed with {name} " in said, said
            assert "and cannot move" in said
    run = undeploy(endpoint, delete_data=True)
    assert run.ok, run.error
    assert not any(account.resources(endpoint).values())
    assert "Contents" not in account.s3.list_objects_v2(Bucket=own), "its data was found without the conf's help"


def test_a_bucket_in_another_region_is_refused(account: Account, versions: dict[str, str], endpoint: str) -> None:
    there = {"LocationConstraint": ELSEWHERE}
    account.s3.create_bucket(Bucket="slipway-elsewhere", CreateBucketConfiguration=there)
    run = deploy(endpoint, version=versions["one"], bucket="slipway-elsewhere")
    assert "Bucket 'slipway-elsewhere' is in region eu-west-1, and the endpoint's region is us-east-1" in run.error
    assert not any(account.resources(endpoint).values())


def test_runs_that_name_different_buckets_meet_at_one_lock(
    account: Account, versions: dict[str, str], endpoint: str
) -> None:
    """The first holds it while the second, for another bucket, asks for it: the second does not get it."""
    account.s3.create_bucket(Bucket="slipway-another")
    owner = json.dumps({"owner": "deploy_sagemaker/first"})
    account.s3.put_object(Bucket=BUCKET, Key=f"slipway/{endpoint}/lock", Body=owner)
    conf = {"model": "echo", "endpoint": endpoint, "image": IMAGE, "bucket": "slipway-another"}
    second = Run("deploy_sagemaker", conf, "second", alive={"deploy_sagemaker/first"}, cancelled="lock").go()
    assert second.error == "lock: cancelled", "it waits"
    account.s3.delete_object(Bucket=BUCKET, Key=f"slipway/{endpoint}/lock")
