"""How a run is getting on: its steps in their order, why it failed, and what one would do next."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slipway.web.page.airflow import Airflow, Run

__all__ = ["Progress", "Step", "follow"]


@dataclass(frozen=True)
class Step:
    """One task of a run."""

    id: str
    state: str  # Airflow's, or `waiting` before it has one
    tries: int
    started_at: datetime | None
    seconds: float | None

    @property
    def look(self) -> str:
        """Which of the few looks its state has: `done`, `now`, `failed`, `skipped`, `waiting`."""
        match self.state:
            case "success":
                return "done"
            case "failed" | "upstream_failed":
                return "failed" if self.state == "failed" else "skipped"
            case "running" | "deferred" | "restarting" | "up_for_retry" | "up_for_reschedule":
                return "now"
            case "skipped" | "removed":
                return "skipped"
        return "waiting"


@dataclass(frozen=True)
class Progress:
    """A run and its steps."""

    run: Run
    steps: tuple[Step, ...]
    error: str | None  # the sentence that the failed task left
    failed_step: str | None
    result: Any  # what the deciding task returned

    @property
    def done(self) -> int:
        """How many steps are over."""
        return sum(step.look in {"done", "skipped", "failed"} for step in self.steps)


# The task whose answer says what came of a run.
_RESULTS = {"import_bundle": "store", "register_model": "register"}


async def follow(airflow: Airflow, run: Run) -> Progress:
    """Return how a run is getting on."""
    tasks, order = await asyncio.gather(airflow.tasks(run.dag_id, run.run_id), airflow.steps(run.dag_id))
    place = {name: number for number, name in enumerate(order)}
    steps = tuple(_step(task) for task in sorted(tasks, key=lambda t: place.get(t["task_id"], len(place))))
    error = failed = None
    if run.state == "failed" or any(step.state == "failed" for step in steps):
        failed, error = await _why(airflow, run, steps)
    result = None
    if run.state == "success":
        task = _RESULTS.get(run.dag_id, "publish" if run.dag_id.startswith("deploy_") else "")
        result = await airflow.xcom(run.dag_id, run.run_id, task, "return_value") if task else None
    return Progress(run, steps, error, failed, result)


async def _why(airflow: Airflow, run: Run, steps: tuple[Step, ...]) -> tuple[str | None, str | None]:
    failed = sorted(
        (s for s in steps if s.state == "failed"), key=lambda s: s.started_at or datetime.max.replace(tzinfo=UTC)
    )
    for step in failed:
        if sentence := await airflow.xcom(run.dag_id, run.run_id, step.id, "error"):
            return step.id, str(sentence)
    if not failed:
        note = f" ({run.note})" if run.note else ""
        return (
            None,
            f"The run was marked as failed in Airflow{note}; none of its tasks was." if run.state == "failed" else None,
        )
    return failed[0].id, f"Task '{failed[0].id}' failed and said no more: see its log in Airflow."


def _step(task: dict[str, Any]) -> Step:
    started = task.get("start_date")
    return Step(
        id=task["task_id"],
        state=task.get("state") or "waiting",
        tries=int(task.get("try_number") or 0),
        started_at=datetime.fromisoformat(started) if started else None,
        seconds=task.get("duration"),
    )
