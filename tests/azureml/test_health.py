"""What the Models page says of an endpoint on AzureML: its provisioning state, not its traffic alone."""

from __future__ import annotations

import pytest

from slipway.domain import DeploymentRecord
from slipway.hooks.azureml import AzureMLEndpointHook, endpoint_path
from slipway.web.page.endpoint import Health, health
from slipway_sandbox.azure.server import Sandbox
from tests.azureml.driving import deploy

pytestmark = [pytest.mark.requires("npm"), pytest.mark.usefixtures("registered")]


def test_a_deployment_whose_change_failed_is_not_well(sandbox: Sandbox) -> None:
    record = DeploymentRecord.model_validate(deploy("1", "unwell"))
    assert health(record, "azureml_default") == Health("well", "In service.")

    hook = AzureMLEndpointHook()
    path = endpoint_path("unwell", record.deployment)
    sandbox.faults.set({"kind": "liveness"})
    hook.arm.put(path, hook.arm.get(path) or {})
    hook.arm.settle(path, 30)
    assert sandbox.endpoints.known["unwell"].properties["traffic"] == {record.deployment: 100}
    found = health(record, "azureml_default")
    assert (found.state, f"deployment {record.deployment} is Failed" in found.sentence) == ("ill", True)
