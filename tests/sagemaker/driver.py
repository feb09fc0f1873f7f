"""Runs the tasks of a DAG one by one, with no Airflow around: the real operators, templates, XComs and triggers.

With a state file, a run goes on where an earlier process was killed, as Airflow does when it retries a task. A task
that fails ends the run, and its teardowns come after; a run can be cancelled while one of its tasks waits.
"""

from __future__ import annotations

import asyncio
import copy
import json
import os
import runpy
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from airflow.sdk import DAG
from airflow.sdk.exceptions import AirflowException, AirflowFailException, DownstreamTasksSkipped, TaskDeferred
from botocore.loaders import JSONFileLoader

# In a stack each task is a process of its own and reads botocore's models once; here they are read once for all.
_read = JSONFileLoader.load_file
JSONFileLoader.load_file = lambda self, path: _once(path)


@cache
def _once(path: str) -> Any:
    return _read(JSONFileLoader(), path)


ROOT = Path(__file__).resolve().parents[2]


@cache
def load(dag_id: str) -> DAG:
    return next(v for v in runpy.run_path(str(ROOT / "dags" / f"{dag_id}.py")).values() if isinstance(v, DAG))


@dataclass
class Run:
    """A DAG run: what its tasks returned so far, and how each ended."""

    dag_id: str
    conf: dict[str, Any]
    run_id: str = "manual"
    xcoms: dict[str, dict[str, Any]] = field(default_factory=dict)
    states: dict[str, str] = field(default_factory=dict)
    error: str = ""
    # Runs that other runs' locks may name, and that are still going on.
    alive: set[str] = field(default_factory=set)
    file: Path | None = None
    # More than 1 for tasks that are cleared: Airflow goes on counting.
    first_try: int = 1
    # The task that waits when the run is cancelled, and what is done at that moment.
    cancelled: str = ""
    meanwhile: Callable[[], object] = lambda: None

    def __getitem__(self, task_id: str) -> Any:
        """What a task returned."""
        return self.xcoms[task_id]["return_value"]

    @property
    def ok(self) -> bool:
        return not self.error

    def save(self) -> None:
        if self.file:
            kept = {"xcoms": self.xcoms, "states": self.states, "error": self.error}
            self.file.with_suffix(".new").write_text(json.dumps(kept))
            self.file.with_suffix(".new").rename(self.file)

    def go(self) -> Run:
        """Run every task that has not ended yet."""
        dag = load(self.dag_id)
        for task in dag.topological_sort():
            if task.task_id in self.states or (self.error and not task.is_teardown):
                continue
            if task.is_teardown and self.states.get("lock") != "success":
                continue
            self._run_task(dag, copy.copy(task), self.first_try)
            self.save()
        return self

    def _run_task(self, dag: DAG, task: Any, try_number: int) -> None:
        context = self._context(dag, task, try_number)
        try:
            task.render_template_fields(context)
            result = self._execute(task, context)
            self.states[task.task_id] = "success"
            if result is not None:
                self._push(task.task_id, "return_value", result)
        except DownstreamTasksSkipped as e:
            self.states |= {task.task_id: "success", **dict.fromkeys(e.tasks, "skipped")}
        except _Cancelled:
            self.states[task.task_id] = "failed"
            left = (other.task_id for other in dag.tasks if not other.is_teardown)
            self.states |= {task_id: "skipped" for task_id in left if task_id not in self.states}
            self.error = f"{task.task_id}: cancelled"
        except AirflowException as e:
            if not isinstance(e, AirflowFailException) and try_number <= task.retries:
                self._run_task(dag, copy.copy(dag.get_task(task.task_id)), try_number + 1)
                return
            self.states[task.task_id] = "failed"
            self.error = self.error or f"{task.task_id}: {e}"

    def _execute(self, task: Any, context: Any) -> Any:
        method, arguments = "execute", {}
        while True:
            try:
                return getattr(task, method)(context, **arguments)
            except TaskDeferred as deferred:
                if task.task_id == self.cancelled:
                    self.meanwhile()
                    raise _Cancelled from None
                event = asyncio.run(_first_event(deferred.trigger))
                method, arguments = deferred.method_name, {**(deferred.kwargs or {}), "event": event}

    def _push(self, task_id: str, key: str, value: Any) -> None:
        self.xcoms.setdefault(task_id, {})[key] = json.loads(json.dumps(value, default=str))

    def _context(self, dag: DAG, task: Any, try_number: int) -> Any:
        def pull(task_ids: str, key: str = "return_value", default: Any = None, **_: Any) -> Any:
            return self.xcoms.get(task_ids, {}).get(key, default)

        def count(dag_id: str, run_ids: list[str], **_: Any) -> int:
            return sum(f"{dag_id}/{run_id}" in self.alive for run_id in run_ids)

        conf = {**{name: param.value for name, param in dag.params.items()}, **self.conf}
        ti = SimpleNamespace(
            task_id=task.task_id,
            xcom_pull=pull,
            xcom_push=lambda key, value: self._push(task.task_id, key, value),
            get_dr_count=count,
            get_task_states=lambda dag_id, run_ids: {run_id: dict(self.states) for run_id in run_ids},
            map_index=-1,
            try_number=try_number,
        )
        events: Any = _Events()
        return {
            "dag": dag, "task": task, "ti": ti, "task_instance": ti, "run_id": self.run_id, "params": conf,
            "dag_run": SimpleNamespace(conf=conf), "outlet_events": events, "expanded_ti_count": None,
        }  # fmt: skip


class _Cancelled(Exception):
    """The run was marked as failed."""


class _Events(dict[Any, Any]):
    def __missing__(self, key: Any) -> Any:
        self[key] = SimpleNamespace(extra={})
        return self[key]


async def _first_event(trigger: Any) -> Any:
    path, arguments = trigger.serialize()
    again = type(trigger)(**arguments)
    assert again.serialize() == (path, arguments)
    (event,) = [event.payload async for event in again.run()]
    return event


def drive(file: Path, dag_id: str, conf: dict[str, Any]) -> None:
    """Run a DAG in this process, or go on with it, and end the process."""
    run = resume(file, dag_id, conf).go()
    sys.stderr.write(run.error)
    # At once: nothing of what a killed process would not have done either.
    os._exit(0 if run.ok else 1)


def resume(file: Path, dag_id: str, conf: dict[str, Any]) -> Run:
    """The run that a state file tells of, or a new one."""
    run = Run(dag_id, conf, file=file)
    if file.exists():
        for name, value in json.loads(file.read_text()).items():
            setattr(run, name, value)
    return run
