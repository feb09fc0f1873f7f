"""Deploys and undeploys, killed at each write to Azure and MLflow and run again: the same end state, and no orphans."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import pytest

from slipway.hooks.azureml import AzureMLEndpointHook
from slipway.hooks.mlflow import MlflowHook
from slipway.operators.azureml import AzureMLDeployOperator
from slipway.operators.azureml_live import AzureMLRestoreOperator
from slipway.registry import Registry
from slipway_sandbox.azure.azurite import blob_service
from slipway_sandbox.azure.faults import Faults
from slipway_sandbox.azure.server import Sandbox
from slipway_sandbox.azure.settings import CONTAINER
from tests.azureml import driving
from tests.azureml.driving import deploy, drive
from tests.forked import start
from tests.gate import gate

pytestmark = [pytest.mark.requires("npm"), pytest.mark.usefixtures("registered"), pytest.mark.timeout(1200)]

ENDPOINT = "killed"
FORGOTTEN = "MLflow DELETE delete-tag"


class Killer:
    """Kills a process when its nth write arrives at Azure, which carries it out all the same, or has been made by
    MLflow."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.process: Any = None
        self.left = 0
        self.writes: list[str] = []
        self._look = sandbox.faults.for_request
        self._started = threading.Event()

    def __call__(self, name: str) -> dict[str, Any] | None:
        if name.startswith(("PUT", "PATCH", "DELETE")):
            self._count(name.partition("/workspaces/slipway/")[2])
        return self._look(name)

    def saw(self, call: str) -> None:
        """Count a call of MLflow's."""
        method, _, path = call.partition(" ")
        if method != "GET" and not path.endswith("/search"):
            self._count(f"MLflow {method} {path.rpartition('/')[2]}")

    def _count(self, write: str) -> None:
        if self.left:
            self._started.wait(60)
            self.writes.append(write)
            self.left -= 1
            if self.left == 0:
                os.kill(self.process.pid, signal.SIGKILL)

    def run(self, version: str | None, nth: int) -> int:
        """Deploy, or undeploy, in a process that is killed at its nth write; return its exit status."""
        return self.kill(nth, drive, f"run-{nth}", version, ENDPOINT)

    def kill(self, nth: int, act: Callable[..., None], *arguments: Any) -> int:
        """Do something in a process that is killed at its nth write; return its exit status."""
        self._started.clear()
        self.writes, self.left = [], nth
        self.process = start(act, *arguments)
        self._started.set()
        self.process.join(300)
        self.left = 0
        return int(self.process.exitcode)


@pytest.fixture
def killer(sandbox: Sandbox, mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killer]:
    killer = Killer(sandbox)
    monkeypatch.setattr(Faults, "for_request", lambda _, name: killer(name))
    with gate(mlflow_url, killer.saw) as url:
        connection = json.dumps({"conn_type": "http", "host": url})
        with mock.patch.dict(os.environ, {"AIRFLOW_CONN_MLFLOW_DEFAULT": connection}):
            yield killer


def test_killed_at_each_write_and_run_again(sandbox: Sandbox, killer: Killer) -> None:
    nth, killed_at, before = 0, [], uploads(sandbox)
    while True:
        # Each time the other version, so that each time there is something to do; nothing is there at first.
        nth += 1
        version = str(1 + nth % 2)
        status = killer.run(version, nth)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        killed_at.append(killer.writes[-1].replace(version, "N"))
        # Airflow's retry is the same run again; somebody who starts the action anew is another one.
        published = deploy(version, ENDPOINT, run=f"run-{nth}" if nth % 3 else "another")
        endpoint = sandbox.endpoints.known[ENDPOINT]
        assert endpoint.traffic == {published["deployment"]: 100}
        assert list(endpoint.deployments) == [published["deployment"]], f"killed at {killed_at[-1]}"
        assert recorded() == published["deployment"]
    # Killed at its first writes it was at the endpoint and the assets, later at the deployment and its traffic, at last
    # at the record.
    kinds = {path.split("/")[0] + ("/deployments" if "/deployments/" in path else "") for path in killed_at}
    assert {"onlineEndpoints", "onlineEndpoints/deployments", "MLflow POST set-tag", FORGOTTEN} <= kinds, killed_at
    assert len(killed_at) >= 7
    kinds_made = [kind for kind, *_ in sandbox.assets.versions]
    assert sorted(kinds_made) == ["environments", "models", "models"]
    assert len(uploads(sandbox) - before) <= 2, "the same files go to the same place"

    # The undeploy is killed at its first write, run again, killed at the first that is left to do, and so on.
    killed_at = []
    while killer.run(None, 1) == -signal.SIGKILL:
        killed_at.append(killer.writes[-1])
        assert len(killed_at) < 20, killed_at
        if killed_at[-1] == FORGOTTEN:
            break
    assert killed_at[-1] == FORGOTTEN, killed_at
    assert len(killed_at) >= 4
    assert not sandbox.endpoints.known
    assert recorded() is None


def test_a_way_back_that_is_killed_at_each_write_is_gone_to_its_end(sandbox: Sandbox, killer: Killer) -> None:
    first = deploy("1", ENDPOINT)["deployment"]
    endpoint, killed_at = sandbox.endpoints.known[ENDPOINT], []
    plan = driving.plan_of("2", ENDPOINT)
    step = AzureMLDeployOperator(task_id="deploy", plan=plan, image=driving.IMAGE, traffic=driving.FAST)
    for nth in range(1, 10):
        driving.execute(step, driving.context("cut"))
        AzureMLEndpointHook().set_traffic(ENDPOINT, {first: 50, plan["deployment"]: 50})
        status = killer.kill(nth, driving.restore, "cut", plan)
        if status == -signal.SIGKILL:
            killed_at.append(killer.writes[-1].partition(" ")[0])
            driving.execute(AzureMLRestoreOperator(task_id="restore", plan=plan), driving.context("cut"))
        assert endpoint.traffic == {first: 100}
        assert list(endpoint.deployments) == [first]
        if status == 0:
            break
    assert killed_at == [f"onlineEndpoints/{ENDPOINT}", f"onlineEndpoints/{ENDPOINT}/deployments/{plan['deployment']}"]


def recorded() -> str | None:
    """The deployment that MLflow says is live."""
    record = Registry(MlflowHook()).find_deployment("echo", "azureml", ENDPOINT)
    return record.deployment if record else None


def uploads(sandbox: Sandbox) -> set[str]:
    """The folders of uploaded models."""
    container = blob_service(sandbox.settings, sandbox.certificates).get_container_client(CONTAINER)
    return {"/".join(blob.name.split("/")[:3]) for blob in container.list_blobs(name_starts_with="LocalUpload/")}
