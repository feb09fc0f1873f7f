"""The command: `python -m slipway_stack up | demo | stop | status`."""

from __future__ import annotations

import argparse
import os
import sys

from slipway_stack import lifecycle
from slipway_stack.airflow_api import AirflowError
from slipway_stack.console import Console
from slipway_stack.errors import StackError
from slipway_stack.settings import Stack


def main() -> int:
    """Run one command; 1 and one sentence where it cannot do what it should."""
    parser = argparse.ArgumentParser(prog="slipway_stack", description=__doc__)
    parser.add_argument("command", choices=["up", "demo", "stop", "status"])
    command = parser.parse_args().command
    console = Console()
    try:
        stack = Stack.from_environment()
        return _COMMANDS[command](stack, console)
    except (StackError, AirflowError) as error:
        console.line()
        print(f"slipway: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # Who read the output has seen enough, as with `make demo | head`; nothing is left to be said to anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        print("\nslipway: interrupted; what was started goes on, and `make stop` ends it.", file=sys.stderr)
        return 130


def _up(stack: Stack, console: Console) -> int:
    lifecycle.up(stack, console)
    return 0


def _demo(stack: Stack, console: Console) -> int:
    from slipway_stack.demo import demo

    demo(stack, console)
    return 0


def _stop(stack: Stack, console: Console) -> int:
    ended = lifecycle.stop(stack)
    console.line(f"The stack in {stack.home} is stopped." if ended else f"No stack runs in {stack.home}.")
    return 0


def _status(stack: Stack, console: Console) -> int:
    found = lifecycle.well(stack)
    if found is None:
        console.line(f"No stack runs in {stack.home}: start one with `make demo`.")
        return 3
    for name, healthy in found.items():
        console.line(f"{name:24} {'healthy' if healthy else f'not healthy, see {stack.logs / name}.log'}")
    return 0 if all(found.values()) else 1


_COMMANDS = {"up": _up, "demo": _demo, "stop": _stop, "status": _status}


if __name__ == "__main__":
    sys.exit(main())
