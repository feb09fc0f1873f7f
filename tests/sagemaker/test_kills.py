"""kill -9 right after each change of the account, unseen by the killed task; then the task is run again."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from slipway.hooks.mlflow import MlflowHook
from slipway.registry import TARGETS_TAG, Registry
from tests.forked import start
from tests.gate import gate
from tests.sagemaker.account import IMAGE, Account
from tests.sagemaker.driver import drive, resume

SCALING = {"min": 1, "max": 3, "target": 100}
# The operation, and how many calls of it pass before the one that is the task's last. Each line is one run: its tasks
# are killed at each of these calls in turn, and go on from there. What one task does is in different lines, so that
# each call is followed by the whole rest of its task.
CREATE = [
    [("mlflow:GET model-versions/get", 0), ("s3:PUT", 0), ("mlflow:GET artifacts", 1),
     ("sagemaker:CreateModel", 0), ("sagemaker:CreateEndpoint", 0), ("application-autoscaling:PutScalingPolicy", 0),
     ("mlflow:POST model-versions/set-tag", 0)],
    [("s3:PUT", 1), ("sagemaker:CreateEndpointConfig", 0), ("application-autoscaling:RegisterScalableTarget", 0),
     ("s3:DELETE", 0)],
]  # fmt: skip
UPDATE = [
    [("s3:PUT", 0), ("sagemaker:CreateEndpointConfig", 0), ("sagemaker:UpdateEndpoint", 0),
     ("mlflow:POST model-versions/set-tag", 0), ("sagemaker:DeleteModel", 0)],
    [("sagemaker:CreateModel", 0), ("sagemaker:AddTags", 0), ("mlflow:DELETE model-versions/delete-tag", 0),
     ("sagemaker:DeleteEndpointConfig", 0)],
]  # fmt: skip
# An update to another instance type that fails its verification: how it takes the autoscaling away, and all is undone.
RESTORE = [("application-autoscaling:DeregisterScalableTarget", 0), ("sagemaker:UpdateEndpoint", 1),
           ("application-autoscaling:RegisterScalableTarget", 0), ("sagemaker:DeleteTags", 0),
           ("sagemaker:DeleteEndpointConfig", 0), ("sagemaker:DeleteModel", 0)]  # fmt: skip
UNDEPLOY = [
    [("application-autoscaling:DeleteScalingPolicy", 0), ("sagemaker:DeleteEndpoint", 0), ("sagemaker:DeleteModel", 1),
     ("mlflow:DELETE model-versions/delete-tag", 0)],
    [("application-autoscaling:DeregisterScalableTarget", 0), ("sagemaker:DeleteEndpointConfig", 0), ("s3:DELETE", 0)],
]  # fmt: skip


class Killer:
    """Runs DAGs in processes that are forked from one that has imported everything, and ends them in a call."""

    def __init__(self, account: Account, folder: Path) -> None:
        self._account = account
        self._folder = folder
        self._count = 0
        # Of MLflow: what was called, and what a process is to be killed at.
        self._calls: Counter[str] = Counter()
        self._fatal: tuple[str, int] | None = None
        self._may_answer = threading.Event()

    def saw(self, call: str) -> None:
        """Hold the answer back if it is the one that the process is not to see."""
        method, _, path = call.partition(" ")
        below = path.removeprefix("/api/2.0/mlflow/")
        name = f"mlflow:{method} {'artifacts' if 'mlflow-artifacts' in below else below}"
        self._calls[name] += 1
        if self._fatal and self._fatal[0] == name and self._calls[name] > self._fatal[1]:
            self._may_answer.wait(60)

    def run(self, dag_id: str, conf: dict[str, Any], *kills: tuple[str, int], fails: bool = False) -> None:
        """Run a DAG whose tasks are killed at the given calls, each time to be run again.

        :param fails: whether it is to fail in the end.
        """
        self._count += 1
        file = self._folder / f"{self._count}.json"
        for at in kills:
            self._kill(file, dag_id, conf, at)
        process = start(drive, file, dag_id, conf)
        process.join(120)
        run = resume(file, dag_id, conf)
        assert process.exitcode == fails, run.error

    def _kill(self, file: Path, dag_id: str, conf: dict[str, Any], at: tuple[str, int]) -> None:
        operation, skip = at
        self._account.administer("calls", method="DELETE")
        self._calls.clear()
        self._may_answer.clear()
        self._fatal = at
        fault = {"operation": operation, "skip": skip, "times": 1, "delay": 20, "when": "after"}
        self._account.administer("faults", [fault])
        process = start(drive, file, dag_id, conf)
        deadline = time.monotonic() + 90
        while self._counted(operation) <= skip:
            assert process.is_alive(), f"{operation} is not called: {self._calls} {self._account.administer('calls')}"
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.2)  # it has its effect, and its answer is held back
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        self._account.administer("faults", [])
        self._fatal = None
        self._may_answer.set()

    def _counted(self, operation: str) -> int:
        if operation.startswith("mlflow:"):
            return self._calls[operation]
        return int(self._account.administer("calls").get(operation, 0))


@pytest.fixture
def killer(account: Account, versions: dict[str, str], mlflow_url: str, tmp_path: Path) -> Iterator[Killer]:
    killer = Killer(account, tmp_path)
    with gate(mlflow_url, killer.saw) as url:
        connection = json.dumps({"conn_type": "http", "host": url})
        with mock.patch.dict(os.environ, {"AIRFLOW_CONN_MLFLOW_DEFAULT": connection}):
            yield killer


@pytest.fixture
def conf(endpoint: str, versions: dict[str, str]) -> Callable[..., dict[str, Any]]:
    def make(answer: str) -> dict[str, Any]:
        version = {"version": versions[answer]}
        return {"model": "echo", "endpoint": endpoint, "image": IMAGE, "autoscaling": SCALING, **version}

    return make


def counts(account: Account, endpoint: str) -> dict[str, int]:
    return {kind: len(names) for kind, names in account.resources(endpoint).items()}


def recorded(endpoint: str) -> str | None:
    """The version that MLflow says an endpoint serves."""
    record = Registry(MlflowHook()).find_deployment("echo", "sagemaker", endpoint)
    return record.version if record else None


@pytest.mark.timeout(900)
def test_killed_anywhere_a_deploy_and_an_undeploy_end_as_if_nothing_had_been(
    killer: Killer, account: Account, endpoint: str, conf: Callable[..., dict[str, Any]]
) -> None:
    one = {"Endpoints": 1, "EndpointConfigs": 1, "Models": 1, "Objects": 1, "Uploads": 0, "Targets": 1, "Policies": 1}
    target = {"model": "echo", "endpoint": endpoint, "delete_data": True}
    for create, undeploy in zip(CREATE, UNDEPLOY, strict=True):
        killer.run("deploy_sagemaker", conf("one"), *create)
        assert account.predict(endpoint) == ["one", "one"]
        assert counts(account, endpoint) == one
        assert recorded(endpoint) == conf("one")["version"]
        if ("sagemaker:DeleteModel", 1) in undeploy:
            killer.run("deploy_sagemaker", conf("two"))
        killer.run("undeploy_sagemaker", target, *undeploy)
        assert not any(account.resources(endpoint).values())
        assert recorded(endpoint) is None
        tags = {tag for version in MlflowHook().list_versions("echo") for tag in version.tags}
        known = {tag["key"]: tag["value"] for tag in MlflowHook().get_model("echo")["tags"]}
        deployed = any(tag.startswith("slipway.deployment.sagemaker.") for tag in tags)
        assert ("sagemaker" in known[TARGETS_TAG].split()) == deployed, "the index of targets is as the records are"


@pytest.mark.timeout(900)
def test_killed_anywhere_an_update_ends_as_if_nothing_had_been(
    killer: Killer, account: Account, endpoint: str, conf: Callable[..., dict[str, Any]]
) -> None:
    for answer in ("one", "two", "three"):  # so that each further one has something to prune
        killer.run("deploy_sagemaker", conf(answer))
    for answer, kills in zip(("four", "one"), UPDATE, strict=True):
        killer.run("deploy_sagemaker", conf(answer), *kills)
        assert account.predict(endpoint) == [answer, answer]
        found = counts(account, endpoint)
        assert (found["Endpoints"], found["EndpointConfigs"], found["Models"], found["Uploads"]) == (1, 3, 3, 0), kills
        assert not [key for key in account.resources(endpoint)["Objects"] if key.endswith("lock")], kills
        assert recorded(endpoint) == conf(answer)["version"]
    before = account.resources(endpoint)
    unmentioned = {"autoscaling": None, "instance_type": "ml.c5.large"}
    killer.run("deploy_sagemaker", {**conf("liar"), **unmentioned}, *RESTORE, fails=True)
    assert account.predict(endpoint) == ["one", "one"]
    assert account.resources(endpoint) == before
    assert "slipway:autoscaling" not in account.tags(endpoint)
    killer.run("undeploy_sagemaker", {"model": "echo", "endpoint": endpoint, "delete_data": True})
    assert not any(account.resources(endpoint).values())
