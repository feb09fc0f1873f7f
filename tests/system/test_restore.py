"""What a deploy that is cut short leaves behind: the operators one by one, against the real host and MLflow."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest

from slipway.hooks.model_host import ModelHostHook
from slipway.operators.endpoints import RestoreOperator, SwitchOperator
from slipway.operators.model_host import ModelHostDeployOperator
from slipway.operators.resolve import ResolveVersionOperator
from slipway.triggers.model_host import ModelHostDeploymentTrigger
from tests.stack.running import RunningStack
from tests.system.steps import cancelled, constant_bundle, deploy, register, score

CONTEXT: Any = {}  # none of these steps asks Airflow for anything


@pytest.fixture(autouse=True)
def connections(stack: RunningStack, monkeypatch: pytest.MonkeyPatch) -> None:
    host = {"conn_type": "http", "host": stack.model_host_admin_url, "password": stack.keys.model_host_token}
    monkeypatch.setenv("AIRFLOW_CONN_MODEL_HOST_DEFAULT", json.dumps(host))
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "http", "host": stack.mlflow_url}))


@pytest.fixture(scope="module")
def versions(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder: Path = tmp_path_factory.mktemp("restore")
    answers = ("one", "two")
    return [register(stack, constant_bundle(folder / f"{a}.zip", a), "cut-short") for a in answers]


def plan_of(version: str, endpoint: str) -> dict[str, Any]:
    operator = ResolveVersionOperator(
        task_id="resolve", target="mlflow", conn_id="model_host_default", model="cut-short", version=version,
        endpoint=endpoint, options={"auth": "none", "workers": 1},
    )  # fmt: skip
    return operator.run(CONTEXT)


def go_live(plan: dict[str, Any]) -> None:
    ModelHostDeployOperator(task_id="deploy", plan=plan).run(CONTEXT)
    SwitchOperator(task_id="switch", plan=plan).run(CONTEXT)


def restore(plan: dict[str, Any]) -> str:
    return RestoreOperator(task_id="restore", plan=plan).run(CONTEXT)


def deployments(plan: dict[str, Any]) -> list[str] | None:
    found = ModelHostHook().find_endpoint(plan["endpoint"])
    return None if found is None else sorted(d["version"] for d in found["deployments"])


def test_a_new_endpoint_that_was_not_published_is_gone(versions: list[str]) -> None:
    plan = plan_of(versions[0], "never-published")
    go_live(plan)
    assert "is removed again" in restore(plan)
    assert deployments(plan) is None
    assert "nothing to undo" in restore(plan), "a retry finds nothing to do"


def test_what_was_published_serves_on(stack: RunningStack, versions: list[str]) -> None:
    one, two = versions
    url = deploy(stack, "cut-short", version=one, endpoint="half-way")["url"]
    plan = plan_of(two, "half-way")
    go_live(plan)
    assert score(url) == ["two", "two"]
    restore(plan)
    assert score(url) == ["one", "one"]
    assert deployments(plan) == [one]

    # Another run publishes the same deployment: what this run would undo is no longer its own.
    assert deploy(stack, "cut-short", version=two, endpoint="half-way")["deployment"] == plan["deployment"]
    assert restore(plan) == "The deployment is published: nothing to undo."
    assert score(url) == ["two", "two"]
    stack.succeed("undeploy_mlflow", {"model": "cut-short", "endpoint": "half-way"})


def test_a_deploy_that_is_cancelled_while_its_task_is_at_work(stack: RunningStack, versions: list[str]) -> None:
    one, two = versions
    url = deploy(stack, "cut-short", version=one, endpoint="cancelled")["url"]
    run = stack.trigger("deploy_mlflow", {"model": "cut-short", "version": two, "endpoint": "cancelled"})
    cancelled(stack, run, "deploy", "running")
    assert "ended from outside" in stack.task_log(run, "restore")
    assert score(url) == ["one", "one"]
    assert deployments({"endpoint": "cancelled"}) == [one]
    stack.succeed("undeploy_mlflow", {"model": "cut-short", "endpoint": "cancelled"})


def test_an_import_that_is_cancelled_is_no_success_and_leaves_nothing(stack: RunningStack, tmp_path: Path) -> None:
    uri = constant_bundle(tmp_path / "given-up.zip", "one")
    before = sorted((stack.stack.bundles / ".staging").glob("*"))
    run = stack.trigger("import_bundle", {"bundle_uri": uri})
    cancelled(stack, run, "probe", "running")
    assert "ended from outside before its task 'store' was done" in stack.xcom(run, "outcome", "error")
    assert sorted((stack.stack.bundles / ".staging").glob("*")) == before
    assert "There is no bundle named 'given-up'" in stack.fail("register_model", {"name": "given-up"})[1]


def test_the_wait_in_the_triggerer_ends_with_the_deployment(versions: list[str]) -> None:
    plan = plan_of(versions[0], "deferred")
    ModelHostHook().put_deployment("deferred", plan["deployment"], plan["spec"])
    trigger = ModelHostDeploymentTrigger("model_host_default", "deferred", plan["deployment"], time.time() + 60)
    path, arguments = trigger.serialize()
    assert path == "slipway.triggers.model_host.ModelHostDeploymentTrigger"
    assert ModelHostDeploymentTrigger(**arguments).serialize() == (path, arguments)

    async def wait() -> list[dict[str, Any]]:
        return [event.payload async for event in trigger.run()]

    (event,) = asyncio.run(wait())
    assert event["deployment"]["state"] == "ready"
    operator = ModelHostDeployOperator(task_id="deploy", plan=plan)
    assert operator.execute_complete(CONTEXT, event)["url"].endswith("/endpoints/deferred")
    assert "is removed again" in restore(plan)
    assert deployments(plan) is None
    (event,) = asyncio.run(wait())
    assert "gone" in event, "a deployment that is gone is not waited for"
