"""`python -m slipway_scoring <command>`. Each command is imported only when it is called, so that each needs only its
own imports (`environment` runs under a bare Python)."""

from __future__ import annotations

import sys
from importlib import import_module

COMMANDS = {
    "serve": ("serve", "answer HTTP requests for one model"),
    "health": ("health", "tell whether the server in this container is ready"),
    "probe": ("probe", "load a bundle or model once and report on it"),
    "environment": ("environment", "make a model's virtual environment from its lock"),
    "score": ("offline", "score files"),
}


def main(arguments: list[str]) -> int:
    """Run the command that `arguments` begin with; returns the exit status."""
    if arguments and arguments[0] in COMMANDS:
        module = import_module(f"slipway_scoring.{COMMANDS[arguments[0]][0]}")
        status: int = module.main(arguments[1:])
        return status
    lines = [f"  {name:12} {text}" for name, (_, text) in COMMANDS.items()]
    usage = "\n".join(["usage: python -m slipway_scoring <command> [--help]", "", *lines, ""])
    asked = bool(arguments) and arguments[0] in {"-h", "--help"}
    (sys.stdout if asked else sys.stderr).write(usage)
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
