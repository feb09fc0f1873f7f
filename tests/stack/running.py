"""A whole stack for tests: in a temporary home, on ports of its own, ended when the test is over.

with running_stack() as stack:
    run = stack.succeed("import_bundle", {"bundle_uri": …})
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from slipway_stack import lifecycle
from slipway_stack.airflow_api import AirflowClient, Run
from slipway_stack.console import Console
from slipway_stack.keys import Keys, keys
from slipway_stack.ports import pick_free
from slipway_stack.settings import PORT_VARIABLES, Stack


@dataclass(frozen=True)
class RunningStack:
    """A stack that is up and healthy."""

    stack: Stack
    airflow: AirflowClient

    @property
    def keys(self) -> Keys:
        """Its passwords and tokens."""
        return keys(self.stack)

    @property
    def airflow_url(self) -> str:
        return self.stack.url("airflow")

    @property
    def mlflow_url(self) -> str:
        return self.stack.url("mlflow")

    @property
    def model_host_url(self) -> str:
        """The front door: `<url>/endpoints/<name>/invocations`."""
        return self.stack.url("model_host")

    @property
    def model_host_admin_url(self) -> str:
        return self.stack.url("model_host_admin")

    def trigger(self, dag_id: str, conf: dict[str, Any]) -> Run:
        return self.airflow.trigger(dag_id, conf)

    def wait(self, run: Run, timeout: float = 600.0) -> Run:
        """The run when it is over, whichever way."""
        return self.airflow.wait(run, timeout=timeout)

    def succeed(self, dag_id: str, conf: dict[str, Any], timeout: float = 600.0) -> Run:
        """Run a DAG that must succeed; a failure shows the task and its own sentence."""
        run = self.wait(self.trigger(dag_id, conf), timeout)
        assert run.state == "success", f"{dag_id}: {self.airflow.failure(run)}"
        return run

    def fail(self, dag_id: str, conf: dict[str, Any], timeout: float = 600.0) -> tuple[str, str]:
        """Run a DAG that must fail; the task that failed, and the sentence that it failed with."""
        run = self.wait(self.trigger(dag_id, conf), timeout)
        assert run.state == "failed", f"{dag_id} did not fail"
        return self.airflow.failure(run)

    def xcom(self, run: Run, task: str, key: str = "return_value") -> Any:
        return self.airflow.xcom(run, task, key)

    def task_log(self, run: Run, task: str) -> str:
        return self.airflow.task_log(run, task)


@contextmanager
def running_stack(variables: Mapping[str, str] | None = None) -> Iterator[RunningStack]:
    """Start a stack with the code of this checkout, and end it with all that it started.

    `variables` are added to its environment, such as `AIRFLOW__SLIPWAY__PROBE_TIMEOUT_SECONDS`. With `SLIPWAY_KEEP`
    set, the home of a stack is left for a look at its logs.
    """
    # Short, because the sockets of the model host and of the supervisor lie below it.
    home = Path(tempfile.mkdtemp(prefix="slw-"))
    ports = pick_free(len(PORT_VARIABLES))
    chosen = {variable: str(port) for (variable, _), port in zip(PORT_VARIABLES.values(), ports, strict=True)}
    with mock.patch.dict(os.environ, {**(variables or {}), **chosen, "SLIPWAY_HOME": str(home)}):
        stack = Stack.from_environment()
        try:
            lifecycle.up(stack, Console())
            with lifecycle.client(stack) as airflow:
                yield RunningStack(stack, airflow)
        finally:
            lifecycle.stop(stack)
            if "SLIPWAY_KEEP" not in os.environ:
                shutil.rmtree(home, ignore_errors=True)
