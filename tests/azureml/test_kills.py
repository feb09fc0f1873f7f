"""A deploy that is killed at each of its writes to Azure and run again: the same final state, and no orphans."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slipway.hooks.mlflow import MlflowHook
from slipway.registry import Registry
from slipway_sandbox.azure.azurite import blob_service
from slipway_sandbox.azure.faults import Faults
from slipway_sandbox.azure.server import Sandbox
from slipway_sandbox.azure.settings import CONTAINER
from tests.azureml.driving import deploy, undeploy

pytestmark = [pytest.mark.requires("npm"), pytest.mark.usefixtures("registered"), pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]


class Killer:
    """Kills a process when its nth write arrives at Azure, which carries it out all the same."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.left = 0
        self.writes: list[str] = []
        self._look = sandbox.faults.for_request

    def __call__(self, name: str) -> dict[str, Any] | None:
        if self.process is not None and name.startswith(("PUT", "DELETE")):
            self.writes.append(name.partition("/workspaces/slipway/")[2])
            self.left -= 1
            if self.left == 0:
                os.kill(self.process.pid, signal.SIGKILL)
        return self._look(name)

    def run(self, version: str, nth: int) -> int:
        """Deploy in a process that is killed at its nth write; return its exit status."""
        self.writes, self.left = [], nth
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "RUN": f"run-{nth}"}
        command = [sys.executable, "-m", "tests.azureml.driving", version, "killed"]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
        status = self.process.wait(300)
        self.process = None
        return status


def test_killed_at_each_write_and_run_again(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    killer = Killer(sandbox)
    monkeypatch.setattr(Faults, "for_request", lambda _, name: killer(name))
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
        published = deploy(version, "killed", run=f"run-{nth}" if nth % 3 else "another")
        endpoint = sandbox.endpoints.known["killed"]
        assert endpoint.traffic == {published["deployment"]: 100}
        assert list(endpoint.deployments) == [published["deployment"]], f"killed at {killed_at[-1]}"
        record = Registry(MlflowHook()).find_deployment("echo", "azureml", "killed")
        assert record is not None
        assert record.deployment == published["deployment"]
    # Killed at its first writes it was at the endpoint and the assets, later at the deployment and its traffic.
    kinds = [path.split("/")[0] + ("/deployments" if "/deployments/" in path else "") for path in killed_at]
    assert {"onlineEndpoints", "onlineEndpoints/deployments"} <= set(kinds), kinds
    assert len(killed_at) >= 5
    kinds = [kind for kind, *_ in sandbox.assets.versions]
    assert sorted(kinds) == ["environments", "models", "models"]
    assert len(uploads(sandbox) - before) <= 2, "the same files go to the same place"
    undeploy("killed")


def uploads(sandbox: Sandbox) -> set[str]:
    """The folders of uploaded models."""
    container = blob_service(sandbox.settings, sandbox.certificates).get_container_client(CONTAINER)
    return {"/".join(blob.name.split("/")[:3]) for blob in container.list_blobs(name_starts_with="LocalUpload/")}
