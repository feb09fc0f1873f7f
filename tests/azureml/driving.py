"""Driving the steps of deploy_azureml in this process: each operator for real, each wait by its own trigger."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field
from typing import Any

from airflow.sdk.exceptions import AirflowException, TaskDeferred

from slipway.errors import SlipwayError
from slipway.operators.azureml import AzureMLCheckOperator, AzureMLDeployOperator
from slipway.operators.azureml_live import (
    AzureMLRestoreOperator,
    AzureMLRetireOperator,
    AzureMLShiftOperator,
    AzureMLUndeployOperator,
)
from slipway.operators.publish import ForgetOperator, PublishOperator
from slipway.operators.resolve import ResolveDeploymentOperator, ResolveVersionOperator
from slipway.operators.verify import VerifyOperator

IMAGE = {"image": "registry.example/slipway@sha256:" + "0" * 64}
OPTIONS: dict[str, Any] = {"instance_type": "Standard_DS3_v2", "instance_count": 1, "auth_mode": "key"}
FAST = {"steps": [10, 50, 100], "wait": 0}


@dataclass
class _Dag:
    dag_id: str = "deploy_azureml"


@dataclass
class _TaskInstance:
    pushed: dict[str, Any] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)

    def get_task_states(self, dag_id: str, run_ids: list[str]) -> dict[str, Any]:
        return dict.fromkeys(run_ids, self.states)

    def xcom_pull(self, task_ids: str, key: str) -> str:
        return "Each of these tasks failed with a sentence."

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


class _Events(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        self[key] = type("Event", (), {"extra": None})()
        return self[key]


def context(run: str = "manual") -> Any:
    """What the operators ask Airflow's context for."""
    return {"dag": _Dag(), "run_id": run, "ti": _TaskInstance(), "outlet_events": _Events()}


def execute(operator: Any, ctx: Any) -> Any:
    """Execute an operator as a worker does; each deferral is awaited as in the triggerer."""
    try:
        return operator.execute(ctx)
    except TaskDeferred as deferred:
        waiting = deferred
    while True:
        event = asyncio.run(first_event(waiting.trigger))
        try:
            return getattr(operator, waiting.method_name)(ctx, event=event, **(waiting.kwargs or {}))
        except TaskDeferred as deferred:
            waiting = deferred


async def first_event(trigger: Any) -> Any:
    """Run a trigger to its event."""
    async for event in trigger.run():
        return event.payload
    raise AssertionError("a trigger without an event")


def plan_of(version: str, endpoint: str, *, tags: Any = None, identity: Any = None, **options: Any) -> dict[str, Any]:
    """The plan of a deploy."""
    operator = ResolveVersionOperator(
        task_id="resolve", target="azureml", conn_id="azureml_default", model="echo", version=version,
        endpoint=endpoint, options={**OPTIONS, **options}, further={"tags": tags, "identity": identity},
    )  # fmt: skip
    return dict(operator.run(context()))


def deploy(version: str, endpoint: str, *, run: str = "manual", traffic: Any = None, **options: Any) -> dict[str, Any]:
    """Do all steps of deploy_azureml as the DAG does, with its teardown; return what was published."""
    traffic = traffic or FAST
    plan, ctx = plan_of(version, endpoint, **options), context(run)
    execute(AzureMLCheckOperator(task_id="check", plan=plan, traffic=traffic), ctx)
    try:
        deployed = execute(AzureMLDeployOperator(task_id="deploy", plan=plan, image=IMAGE, traffic=traffic), ctx)
        execute(VerifyOperator(task_id="verify", plan=plan), ctx)
        execute(AzureMLShiftOperator(task_id="switch", plan=plan, traffic=traffic), ctx)
        published = execute(PublishOperator(task_id="publish", plan=plan, deployed=deployed), ctx)
        execute(AzureMLRetireOperator(task_id="retire", plan=plan), ctx)
    finally:
        execute(AzureMLRestoreOperator(task_id="restore", plan=plan), ctx)
    return dict(published)


def undeploy(endpoint: str, **options: Any) -> None:
    """Do all steps of undeploy_azureml."""
    ctx = context()
    resolve = ResolveDeploymentOperator(
        task_id="resolve", target="azureml", conn_id="azureml_default", model="echo", endpoint=endpoint
    )
    plan = resolve.run(ctx)
    execute(AzureMLUndeployOperator(task_id="undeploy", plan=plan, **options), ctx)
    execute(ForgetOperator(task_id="forget", plan=plan), ctx)


def restore(run: str, plan: dict[str, Any]) -> None:
    """Undo a deploy in a process that can be killed on the way."""
    execute(AzureMLRestoreOperator(task_id="restore", plan=plan), context(run))
    os._exit(0)


def drive(run: str, version: str | None, endpoint: str) -> None:
    """Deploy a version, or undeploy where there is none, and end this process, which can be killed on the way."""
    try:
        if version is None:
            undeploy(endpoint)
        else:
            deploy(version, endpoint, run=run)
    except (AirflowException, SlipwayError) as e:
        sys.stderr.write(f"{e}\n")
        os._exit(1)
    # At once: nothing of what a killed process would not have done either.
    os._exit(0)
