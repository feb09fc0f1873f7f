"""Running one lifecycle action in front of somebody who watches."""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_stack.airflow_api import AirflowClient, Run, Task
from slipway_stack.console import Console
from slipway_stack.errors import StackError
from slipway_stack.settings import Stack

_PARSE_SECONDS = 60.0
_ACTION_SECONDS = 1800.0
_POLL_SECONDS = 0.25
_GOING = frozenset({"running", "deferred", "up_for_retry"})


@dataclass(frozen=True)
class Actions:
    """The lifecycle actions of one stack, run one after the other."""

    stack: Stack
    airflow: AirflowClient
    console: Console

    def wait_for_dags(self, wanted: Collection[str]) -> None:
        """Wait until Airflow has parsed these DAGs; raises `StackError` if it cannot."""
        deadline = time.monotonic() + _PARSE_SECONDS
        while missing := sorted(set(wanted) - self.airflow.dag_ids()):
            for file, trace in self.airflow.import_errors().items():
                raise StackError(f"Airflow cannot read {file}: {trace.strip().splitlines()[-1]}")
            if time.monotonic() > deadline:
                raise StackError(f"Airflow has not found {', '.join(missing)} after {_PARSE_SECONDS:.0f} s.")
            self.console.passing(f"waiting for Airflow to read {', '.join(missing)}")
            time.sleep(_POLL_SECONDS)

    def run(self, dag_id: str, conf: dict[str, Any], run_id: str) -> Run:
        """Trigger a DAG and wait for its end, with a line for each task that ends.

        Raises `StackError` with the failed task's own sentence and the place of its log.
        """
        told: set[str] = set()

        def tell(tasks: list[Task]) -> None:
            for task in tasks:
                if task.state == "success" and task.task_id not in told:
                    told.add(task.task_id)
                    self.console.done(f"  {dag_id} · {task.task_id}")
            going = [task.task_id for task in tasks if task.state in _GOING]
            self.console.passing(f"  {dag_id} · {', '.join(going) or 'waiting for the scheduler'}")

        with self.console.step(dag_id):
            triggered = self.airflow.trigger(dag_id, conf, run_id=run_id)
            run = self.airflow.wait(triggered, timeout=_ACTION_SECONDS, follow=tell)
            if run.state != "success":
                task, reason = self.airflow.failure(run)
                log = task_logs(self.stack, run, task)
                raise StackError(f"{dag_id} failed in {task or 'no task'}: {reason} (its log: {log})")
        return run


def task_logs(stack: Stack, run: Run, task: str) -> Path:
    """The folder of a task's logs, one file for each try."""
    parts = (f"dag_id={run.dag_id}", f"run_id={run.run_id}", f"task_id={task}")
    return stack.airflow.joinpath("logs", *parts)
