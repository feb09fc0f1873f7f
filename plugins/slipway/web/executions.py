"""An execution as callers see it: made out of a run of Airflow's and what its tasks left."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from pydantic import BaseModel, Field

from slipway.web.core import CoreApi

__all__ = ["OVER", "Execution", "describe", "split_id"]

DAG = "score_workflow"
SCHEDULED_PREFIX = "scheduled_scoring__"
CANCELLED = "Cancelled by "
OVER = {"success", "failed", "cancelled"}
_TASKS = ("score", "resolve", "publish")


class Execution(BaseModel):
    """One execution of a score workflow."""

    executionId: str = Field(description="Names the execution in this API and its output's directory.")  # noqa: N815
    workflowId: int | None  # noqa: N815
    workflow: str | None = Field(description="The workflow's name, once it is resolved.")
    state: str = Field(description="queued, running, success, failed, cancelling or cancelled.")
    queuedAt: str | None  # noqa: N815
    startedAt: str | None  # noqa: N815
    endedAt: str | None  # noqa: N815
    counts: dict[str, int] | None = Field(description="Rows: in, scored, rejected, written.")
    outputs: list[dict[str, Any]] | None = Field(description="Each output's path, format and rows.")
    rejects: dict[str, Any] | None = Field(description="Where the rejected rows are, and the commonest reasons.")
    error: str | None = Field(description="Why it failed, in one sentence.")
    sparkApplication: str | None  # noqa: N815
    links: dict[str, str]


def split_id(execution: str) -> tuple[str, str]:
    """Return DAG and run of an execution's id."""
    dag, colon, run = execution.partition(":")
    return (dag, run) if colon and dag.startswith(SCHEDULED_PREFIX) else (DAG, execution)


async def describe(core: CoreApi, execution: str, run: dict[str, Any], base: str) -> Execution:
    """Return the execution that a run is.

    :param run: the run, as Airflow's API describes it.
    :param base: address of the server, without a slash at its end.
    """
    dag, run_id = split_id(execution)
    state = str(run["state"])
    cancelled = state != "success" and str(run.get("note") or "").startswith(CANCELLED)
    result = await core.xcom(dag, run_id, "publish", "return_value") if state == "success" else None
    error = None
    if cancelled:
        error = str(run["note"])
        # The last step, which sends the mail, is still to come.
        state = "cancelled" if state == "failed" else "cancelling"
    elif state == "failed":
        error = await _error(core, dag, run_id)
    started = run["state"] != "queued"
    page = f"{base}/dags/{dag}/runs/{quote(run_id, safe='')}"
    return Execution(
        executionId=execution,
        workflowId=(run.get("conf") or {}).get("workflowId"),
        workflow=await core.xcom(dag, run_id, "resolve", "workflow") if started else None,
        state=state,
        queuedAt=run.get("queued_at"),
        startedAt=run.get("start_date"),
        endedAt=run.get("end_date"),
        counts=(result or {}).get("counts"),
        outputs=(result or {}).get("outputs"),
        rejects=(result or {}).get("rejects"),
        error=error,
        sparkApplication=await core.xcom(dag, run_id, "score", "spark_application") if started else None,
        links={"self": f"{base}/api/v1/workflow/execution/{quote(execution, safe='')}", "airflow": page},
    )


async def _error(core: CoreApi, dag: str, run_id: str) -> str:
    for task in _TASKS:
        sentence = await core.xcom(dag, run_id, task, "error")
        if sentence:
            return str(sentence)
    failed = [task["task_id"] for task in await core.tasks(dag, run_id) if task["state"] == "failed"]
    where = f"Task '{failed[0]}' failed" if failed else "The run was marked as failed"
    return f"{where} and said no more: see its log in Airflow."
