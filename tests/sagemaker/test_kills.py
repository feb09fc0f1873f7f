"""kill -9 right after each change of the account, unseen by the killed task; then the task is run again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests import forked
from tests.sagemaker.account import IMAGE, Account
from tests.sagemaker.driver import drive, resume

SCALING = {"min": 1, "max": 3, "target": 100}
# The operation, and how many calls of it pass before the one that is the task's last.
CREATE = [
    ("s3:PUT", 0), ("s3:PUT", 1), ("sagemaker:CreateModel", 0), ("sagemaker:CreateEndpointConfig", 0),
    ("sagemaker:CreateEndpoint", 0), ("application-autoscaling:RegisterScalableTarget", 0),
    ("application-autoscaling:PutScalingPolicy", 0), ("s3:DELETE", 0),
]  # fmt: skip
UPDATE = [
    ("s3:PUT", 0), ("sagemaker:CreateModel", 0), ("sagemaker:CreateEndpointConfig", 0), ("sagemaker:AddTags", 0),
    ("sagemaker:UpdateEndpoint", 0), ("sagemaker:DeleteEndpointConfig", 0), ("sagemaker:DeleteModel", 0),
]  # fmt: skip
UNDEPLOY = [
    ("application-autoscaling:DeleteScalingPolicy", 0), ("application-autoscaling:DeregisterScalableTarget", 0),
    ("sagemaker:DeleteEndpoint", 0), ("sagemaker:DeleteEndpointConfig", 0), ("sagemaker:DeleteModel", 1),
    ("s3:DELETE", 0),
]  # fmt: skip


class Killer:
    """Runs DAGs in processes that can be killed."""

    def __init__(self, account: Account, folder: Path) -> None:
        self._account = account
        self._folder = folder
        self._count = 0

    def run(self, dag_id: str, conf: dict[str, Any], kill_after: tuple[str, int] | None = None) -> Any:
        """The run, after a task that was killed at the given call has been run again."""
        self._count += 1
        file = self._folder / f"{self._count}.json"
        if kill_after:
            operation, skip = kill_after
            self._account.administer("calls", method="DELETE")
            fault = {"operation": operation, "skip": skip, "times": 1, "delay": 20, "when": "after"}
            self._account.administer("faults", [fault])
            process = forked.start(drive, file, dag_id, conf)
            deadline = time.monotonic() + 90
            while self._account.administer("calls").get(operation, 0) <= skip:
                assert process.is_alive(), f"{operation} is not called"
                assert time.monotonic() < deadline
                time.sleep(0.05)
            time.sleep(0.3)  # it has its effect, and its answer is held back
            os.kill(process.pid, signal.SIGKILL)
            process.join()
            self._account.administer("faults", [])
        process = forked.start(drive, file, dag_id, conf)
        process.join(120)
        run = resume(file, dag_id, conf)
        assert process.exitcode == 0, run.error
        return run


@pytest.fixture
def killer(account: Account, versions: dict[str, str], tmp_path: Path) -> Killer:
    return Killer(account, tmp_path)


@pytest.fixture
def conf(endpoint: str, versions: dict[str, str]) -> Callable[..., dict[str, Any]]:
    def make(answer: str) -> dict[str, Any]:
        version = {"version": versions[answer]}
        return {"model": "echo", "endpoint": endpoint, "image": IMAGE, "autoscaling": SCALING, **version}

    return make


def counts(account: Account, endpoint: str) -> dict[str, int]:
    return {kind: len(names) for kind, names in account.resources(endpoint).items()}


@pytest.mark.timeout(900)
def test_killed_anywhere_a_deploy_and_an_undeploy_end_as_if_nothing_had_been(
    killer: Killer, account: Account, endpoint: str, conf: Callable[..., dict[str, Any]]
) -> None:
    one = {"Endpoints": 1, "EndpointConfigs": 1, "Models": 1, "Objects": 1, "Uploads": 0, "Targets": 1, "Policies": 1}
    target = {"model": "echo", "endpoint": endpoint, "delete_data": True}
    for i in range(max(len(CREATE), len(UNDEPLOY))):
        at = CREATE[i]
        killer.run("deploy_sagemaker", conf("one"), at)
        assert account.predict(endpoint) == ["one", "one"]
        assert counts(account, endpoint) == one, at
        if i >= len(UNDEPLOY):
            killer.run("undeploy_sagemaker", target)
            continue
        at = UNDEPLOY[i]
        if at == ("sagemaker:DeleteModel", 1):
            killer.run("deploy_sagemaker", conf("two"))
        killer.run("undeploy_sagemaker", target, at)
        assert not any(account.resources(endpoint).values()), at


@pytest.mark.timeout(900)
def test_killed_anywhere_an_update_ends_as_if_nothing_had_been(
    killer: Killer, account: Account, endpoint: str, conf: Callable[..., dict[str, Any]]
) -> None:
    answers = ["one", "two", "three", "four"]
    for answer in answers:  # so that each further one has something to prune
        killer.run("deploy_sagemaker", conf(answer))
    for i, at in enumerate(UPDATE):
        answer = answers[i % len(answers)]
        killer.run("deploy_sagemaker", conf(answer), at)
        assert account.predict(endpoint) == [answer, answer]
        found = counts(account, endpoint)
        assert (found["Endpoints"], found["EndpointConfigs"], found["Models"], found["Uploads"]) == (1, 3, 3, 0), at
        assert not [key for key in account.resources(endpoint)["Objects"] if key.endswith("lock")], at
    killer.run("undeploy_sagemaker", {"model": "echo", "endpoint": endpoint, "delete_data": True})
    assert not any(account.resources(endpoint).values())
