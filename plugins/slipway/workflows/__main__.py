"""For people who write definitions: `python -m slipway.workflows check FILE …`, `schema`, `graph FILE`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from slipway.errors import UserError
from slipway.workflows import catalog, graph
from slipway.workflows.definition import schema


def main(arguments: list[str]) -> int:
    """Run one command; 0 if all is well, 3 if a definition is wrong, 2 if the command is."""
    match arguments:
        case ["schema"]:
            sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
        case ["graph", file]:
            sys.stdout.write(graph.mermaid(catalog.parse(Path(file).read_bytes(), file)))
        case ["check", *files] if files:
            return max([_check(Path(file)) for file in files])
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


def _check(file: Path) -> int:
    try:
        definition = catalog.parse(file.read_bytes(), file.name)
    except (UserError, OSError) as e:
        for problem in getattr(e, "problems", [e]):
            sys.stdout.write(f"{file}: {problem}\n")
        return 3
    sys.stdout.write(f"{file}: workflow {definition.id}, {definition.name}, is well formed.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
