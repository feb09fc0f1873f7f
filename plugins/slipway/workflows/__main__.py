"""For people who write definitions: `python -m slipway.workflows check [--models] FILE …`, `schema`, `graph FILE`.

With `--models`, the models that a definition names are looked up in MLflow (connection `mlflow_default`).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from slipway.errors import SlipwayError
from slipway.hooks.mlflow import MlflowHook
from slipway.workflows import catalog, graph
from slipway.workflows.definition import schema
from slipway.workflows.models import unknown_models


def main(arguments: list[str]) -> int:
    """Run one command; 0 if all is well, 3 if a definition is wrong, 2 if the command is."""
    match arguments:
        case ["schema"]:
            sys.stdout.write(json.dumps(schema(), indent=2) + "\n")
        case ["graph", file]:
            sys.stdout.write(graph.mermaid(catalog.parse(Path(file).read_bytes(), file)))
        case ["check", "--models", *files] if files:
            return max(_check(Path(file), models=True) for file in files)
        case ["check", *files] if files:
            return max(_check(Path(file)) for file in files)
        case _:
            sys.stderr.write(f"{__doc__}\n")
            return 2
    return 0


def _check(file: Path, *, models: bool = False) -> int:
    try:
        definition = catalog.parse(file.read_bytes(), file.name)
        problems = unknown_models(definition, MlflowHook()) if models else []
    except (SlipwayError, OSError) as e:
        problems = getattr(e, "problems", [e])
    for problem in problems:
        sys.stdout.write(f"{file}: {problem}\n")
    if problems:
        return 3
    sys.stdout.write(f"{file}: workflow {definition.id}, {definition.name}, is well formed.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
