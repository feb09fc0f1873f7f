"""Whether the processes of a stack are well, as they say of themselves."""

from __future__ import annotations

import time
from typing import Any

import httpx

from slipway_stack.console import Console
from slipway_stack.errors import StackError
from slipway_stack.programs import Program
from slipway_stack.settings import Stack
from slipway_stack.supervisor import Supervisor

_POLL_SECONDS = 0.25
# The first answer of Airflow's API server may take long on a busy machine.
_ANSWER_SECONDS = 30.0
_PATIENCE_SECONDS = 300.0
# A process that ended this often while it was waited for will not come up by itself.
_TOO_MANY_EXITS = 4


def is_healthy(program: Program, http: httpx.Client) -> bool:
    """Whether a process answers its health route, and answers that it is well."""
    try:
        response = http.get(program.health_url)
        answer: dict[str, Any] = response.json() if program.health_part else {}
    except (httpx.HTTPError, ValueError):
        return False
    part = answer.get(program.health_part or "", {})
    return response.is_success and (program.health_part is None or part.get("status") == "healthy")


def wait_until_healthy(stack: Stack, programs: list[Program], supervisor: Supervisor, console: Console) -> None:
    """Wait for all processes at once, with a line for each that gets well.

    Raises `StackError`, naming the log, for one that keeps ending or takes too long.
    """
    waiting = {program.name: program for program in programs}
    exits: dict[str, int] = dict.fromkeys(waiting, 0)
    pids: dict[str, int] = {}
    deadline = time.monotonic() + _PATIENCE_SECONDS
    with httpx.Client(timeout=_ANSWER_SECONDS) as http:
        while waiting:
            for program in list(waiting.values()):
                if is_healthy(program, http):
                    console.done(f"{program.name} is healthy")
                    del waiting[program.name]
            for name, info in supervisor.states().items():
                changed = name in pids and info["pid"] != pids[name]
                exits[name] = exits.get(name, 0) + changed
                pids[name] = info["pid"]
            broken = [name for name in waiting if exits[name] >= _TOO_MANY_EXITS]
            if broken or (waiting and time.monotonic() > deadline):
                name = (broken or list(waiting))[0]
                what = "keeps ending" if broken else f"is not healthy after {_PATIENCE_SECONDS:.0f} s"
                raise StackError(f"{name} {what}: its log is {stack.logs / f'{name}.log'}.")
            if waiting:
                console.passing(f"waiting for {', '.join(waiting)}")
                time.sleep(_POLL_SECONDS)
