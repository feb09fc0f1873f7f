"""Many waits in one triggerer: one token, few connections, no threads of their own, and faults on the way."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from types import SimpleNamespace
from typing import Any

import pytest

from slipway.azureml.workspace import Workspace
from slipway.hooks.azureml import AzureMLEndpointHook, AzureMLHook
from slipway.triggers.azureml import AzureMLStateTrigger
from slipway_sandbox.azure.server import Sandbox
from tests.azureml.driving import first_event

pytestmark = pytest.mark.requires("npm")

WAITS = 200


def trigger(name: str, deadline: float = 120) -> AzureMLStateTrigger:
    return AzureMLStateTrigger("azureml_default", f"/onlineEndpoints/{name}", None, time.time() + deadline)


def create(name: str) -> None:
    AzureMLEndpointHook().arm.put(f"/onlineEndpoints/{name}", {"location": "x", "properties": {"authMode": "Key"}})


def set_state(sandbox: Sandbox, state: str) -> None:
    for endpoint in sandbox.endpoints.known.values():
        endpoint.properties["provisioningState"] = state


def test_a_trigger_is_made_again_from_what_it_says(sandbox: Sandbox) -> None:
    path, arguments = trigger("churn").serialize()
    assert path == "slipway.triggers.azureml.AzureMLStateTrigger"
    assert AzureMLStateTrigger(**arguments).serialize() == (path, arguments)


def test_two_hundred_waits_share_what_they_need(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SLIPWAY__POLL_SECONDS", "2")
    create("churn")
    AzureMLEndpointHook().arm.settle("/onlineEndpoints/churn", 30)
    set_state(sandbox, "Updating")
    issued = sandbox.login.issued
    sandbox.faults.set(
        {"kind": "throttle", "retry_after": 1, "match": "GET .*/onlineEndpoints/", "times": 20},
        {"kind": "error", "match": "GET .*/onlineEndpoints/", "times": 20},
        {"kind": "drop", "match": "GET .*/onlineEndpoints/", "times": 5},
    )
    threads = 0

    async def wait_all() -> list[Any]:
        nonlocal threads
        waits = [asyncio.create_task(first_event(trigger("churn"))) for _ in range(WAITS)]
        await asyncio.sleep(3)
        threads = threading.active_count()
        assert not any(wait.done() for wait in waits)
        set_state(sandbox, "Succeeded")
        return await asyncio.gather(*waits)

    before = threading.active_count()
    events = asyncio.run(wait_all())
    assert (
        events == [{"path": "/onlineEndpoints/churn", "state": "Succeeded", "operation": None, "error": None}] * WAITS
    )
    assert sandbox.login.issued - issued <= 2, "one sign-in for all"
    assert threads - before < 16, "no thread for each"


def test_pauses_grow_to_the_set_length_and_last_as_long_as_azure_asks(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    create("churn")
    AzureMLEndpointHook().arm.settle("/onlineEndpoints/churn", 30)
    set_state(sandbox, "Updating")
    monkeypatch.setenv("AIRFLOW__SLIPWAY__POLL_SECONDS", "7")
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 5:
            sandbox.faults.set({"kind": "throttle", "retry_after": 40, "match": "GET"})
        if len(slept) == 7:
            set_state(sandbox, "Succeeded")

    monkeypatch.setattr("slipway.triggers.azureml.asyncio", SimpleNamespace(sleep=sleep))
    monkeypatch.setattr("slipway.triggers.azureml.random", SimpleNamespace(uniform=lambda least, _: 1.0))
    looked_up = 0
    real = AzureMLHook.aworkspace

    async def counted(self: AzureMLHook) -> Workspace:
        nonlocal looked_up
        looked_up += 1
        return await real(self)

    monkeypatch.setattr(AzureMLHook, "aworkspace", counted)
    assert asyncio.run(first_event(trigger("churn")))["state"] == "Succeeded"
    assert slept == [2.0, 3.0, 4.5, 6.75, 7.0, 40.0, 7.0]
    assert looked_up == 1, "the connection is read once for each wait"


def test_a_wait_ends_when_what_it_waits_for_is_gone(sandbox: Sandbox) -> None:
    assert asyncio.run(first_event(trigger("nobody")))["state"] is None


def test_a_wait_ends_at_its_deadline_and_when_azure_refuses(sandbox: Sandbox) -> None:
    create("churn")
    AzureMLEndpointHook().arm.settle("/onlineEndpoints/churn", 30)
    set_state(sandbox, "Creating")
    assert asyncio.run(first_event(trigger("churn", deadline=1)))["late"] == "Creating"
    sandbox.faults.set({"kind": "forbidden", "match": "/workspaces/"})
    assert "'AzureML Data Scientist'" in asyncio.run(first_event(trigger("churn")))["refused"]


def test_the_triggerer_does_not_import_azure_ai_ml() -> None:
    import subprocess

    code = "import sys, slipway.triggers.azureml, slipway.operators.azureml_live; print('azure.ai.ml' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_path())
    assert done.stdout.strip() == "False"


def _path() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
