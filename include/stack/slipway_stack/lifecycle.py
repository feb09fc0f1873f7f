"""Starting and stopping a stack."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import httpx

from slipway_stack import environment
from slipway_stack.airflow_api import AirflowClient
from slipway_stack.console import Console
from slipway_stack.errors import StackError
from slipway_stack.health import is_healthy, wait_until_healthy
from slipway_stack.keys import LOGIN, Keys, keys
from slipway_stack.ports import holder, is_free
from slipway_stack.programs import Program, airflow_command, programs
from slipway_stack.settings import PORT_VARIABLES, Stack, recorded_ports
from slipway_stack.supervisor import Supervisor

# Room for the databases, the logs, and the environments of a few models.
_FREE_BYTES = 2 * 1024**3


def up(stack: Stack, console: Console) -> None:
    """Bring the stack up and wait until every part of it is healthy; what runs already stays as it is.

    Raises `StackError` if a port is taken, the disk is full, or a process does not come up.
    """
    with _alone(stack):
        supervisor = Supervisor(stack)
        wanted = programs(stack, keys(stack))
        if supervisor.is_running():
            _same_ports(stack)
            console.done(f"the stack is up already, in {stack.home}")
            if changed := supervisor.unknown_settings(wanted):
                console.line(
                    f"It runs without this shell's {', '.join(changed)}: `make stop demo` starts it with that."
                )
        else:
            supervisor.stop()  # a supervisor that was killed leaves its processes, and they hold the ports
            _check_ports(stack)
            _check_disk(stack.home)
            stack.record()
            supervisor.launch(wanted)
        # What an earlier `up` left undone is done now: a start that was interrupted is simply repeated.
        for program in wanted:
            if not program.needs_database:
                supervisor.start(program.name)
        _migrate(stack, keys(stack), console)
        for program in wanted:
            supervisor.start(program.name)
        wait_until_healthy(stack, wanted, supervisor, console)


def stop(stack: Stack) -> bool:
    """End the stack that lives in this home, and no other; return whether there was one."""
    if not stack.run.exists():
        return False
    with _alone(stack):
        return Supervisor(stack).stop()


def client(stack: Stack) -> AirflowClient:
    """Airflow's API as the stack's own user."""
    return AirflowClient(stack.url("airflow"), LOGIN, keys(stack).password)


def well(stack: Stack) -> dict[str, bool] | None:
    """Which processes are healthy; None if the stack is not running."""
    if not Supervisor(stack).is_running():
        return None
    with httpx.Client(timeout=5.0) as http:
        return {program.name: is_healthy(program, http) for program in _known(stack)}


def _known(stack: Stack) -> list[Program]:
    return programs(stack, keys(stack))


def _migrate(stack: Stack, made: Keys, console: Console) -> None:
    """Make or migrate Airflow's database; once for each version of Airflow, since finding nothing to do takes 5 s."""

    stamp = stack.airflow / f"migrated-{version('apache-airflow-core')}"
    if stamp.exists():
        return
    log = stack.logs / "airflow-migrate.log"
    with console.step("making Airflow's database"), log.open("w") as file:
        command = airflow_command("db", "migrate")
        values = environment.inherited() | environment.airflow(stack, made)
        done = subprocess.run(
            command, env=values, cwd=stack.home, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False
        )
        if done.returncode != 0:
            raise StackError(f"Airflow could not make its database: the reason is in {log}.")
    stamp.touch()


def _check_ports(stack: Stack) -> None:
    for name, (variable, _) in PORT_VARIABLES.items():
        port = stack.ports[name]
        if not is_free(port):
            who = holder(port) or "a process of another user"
            raise StackError(f"Port {port} is in use by {who}: stop that, or set {variable} to a free port.")


def _same_ports(stack: Stack) -> None:
    running = recorded_ports(stack.home)
    for name, (variable, _) in PORT_VARIABLES.items():
        if running.get(name) != stack.ports[name]:
            raise StackError(
                f"The stack in {stack.home} runs with {variable}={running.get(name)}: "
                f"run `make stop` first to change it to {stack.ports[name]}."
            )


def _check_disk(home: Path) -> None:
    free = shutil.disk_usage(home).free
    if free < _FREE_BYTES:
        raise StackError(
            f"{home} is on a disk with {free / 1024**3:.1f} GB free, and the stack needs "
            f"{_FREE_BYTES / 1024**3:.0f} GB: free some, or set SLIPWAY_HOME to a folder on another disk."
        )


@contextmanager
def _alone(stack: Stack) -> Iterator[None]:
    """Keep a second `up` or `stop` of the same stack waiting; makes the stack's folders."""
    try:
        for folder in (stack.run, stack.logs, stack.airflow, stack.mlflow, stack.model_host):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (stack.run / "lock").open("w")
    except OSError as error:
        raise StackError(
            f"{stack.home} cannot be written ({error.strerror}): set SLIPWAY_HOME to a folder that can."
        ) from None
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
