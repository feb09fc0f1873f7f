"""What the Models page says of an endpoint on SageMaker: its status, and why it failed."""

from __future__ import annotations

from datetime import UTC, datetime

from slipway.domain import DeploymentRecord
from slipway.web.page.endpoint import Health, health
from tests.sagemaker.account import Account
from tests.sagemaker.actions import deploy


def test_an_endpoint_that_failed_is_not_well(account: Account, versions: dict[str, str], endpoint: str) -> None:
    run = deploy(endpoint, version=versions["one"])
    assert run.ok, run.error
    record = DeploymentRecord.model_validate({**run["publish"], "samples": None, "deployed_at": datetime.now(UTC)})
    assert health(record, "aws_default") == Health("well", "SageMaker says InService.")

    config = account.describe(endpoint)["EndpointConfigName"]
    account.sagemaker.delete_endpoint(EndpointName=endpoint)
    account.administer("settings", {"outcomes": {endpoint: {"outcome": "fail"}}})
    while account.resources(endpoint)["Endpoints"]:
        pass
    account.sagemaker.create_endpoint(EndpointName=endpoint, EndpointConfigName=config)
    reason = account.settled(endpoint)["FailureReason"]
    assert health(record, "aws_default") == Health("ill", f"SageMaker says Failed: {reason.rstrip('.')}.")
