"""From a definition and a checked request to the plan that the Spark job takes (`slipway_spark.plan`).

Every placeholder is filled in here, so that the job has nothing to decide.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from slipway import settings
from slipway.domain import Signature
from slipway.errors import UserError
from slipway.workflows import places
from slipway.workflows.definition import Definition, ReadNode, ScoreNode, SqlNode, WriteNode
from slipway.workflows.request import Values
from slipway.workflows.values import fill, placeholders

__all__ = ["columns_of", "nodes_of", "rejects_of"]

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")


def nodes_of(definition: Definition, file: Path, values: Values) -> list[dict[str, Any]]:
    """Return the nodes as the job takes them, with paths and options filled in and ordered.

    :param file: the definition's file; relative paths to read begin at its folder.
    :raises UserError: if a parameter leads where callers may not go, or two outputs to one place.
    """
    made = []
    for node in definition.ordered:
        match node:
            case ReadNode():
                plan: dict[str, Any] = {
                    "format": node.format,
                    "path": _place(node.path, values, str(file.parent)) if node.path else None,
                    "schema": node.schema_,
                    "options": _options(node.options, values),
                    "connection": node.connection,
                }
            case SqlNode():
                plan = {"inputs": list(node.inputs), "sql": node.sql, "markers": node.markers}
            case ScoreNode():
                plan = {
                    "input": node.input,
                    "model": fill(node.model, values),
                    "version": node.version,
                    "alias": node.alias,
                    "keep": list(node.keep) if node.keep is not None else None,
                }
            case WriteNode():
                plan = {
                    "input": node.input,
                    "format": node.format,
                    "path": _place(node.path, values, settings.scores_dir()),
                    "mode": node.mode,
                    "partitions": list(node.partitions),
                    "options": _options(node.options, values),
                }
        made.append({"id": node.id, "type": node.type, **plan})
    _check_apart(made, rejects_of(definition)["path"])
    return made


def rejects_of(definition: Definition) -> dict[str, Any]:
    """Return where rejected rows go, and how many there may be."""
    return {"path": _joined(settings.scores_dir(), definition.rejects_path), "max_share": definition.rejects.max_share}


def columns_of(
    node: ScoreNode, label: str, signature: Signature | None
) -> tuple[list[tuple[str, str, bool]] | None, list[tuple[str, str]], list[str]]:
    """Return a model's input columns (name, type, required), its outputs (name, type) and the outputs' new names.

    :raises UserError: if the model says too little and the node does not say it either.
    """
    import json

    inputs = json.loads(signature.inputs) if signature and signature.inputs else None
    outputs = json.loads(signature.outputs) if signature and signature.outputs else None
    if inputs is not None and any("name" not in column or column["type"] == "tensor" for column in inputs):
        raise UserError(
            f"{label} takes tensors or unnamed columns, which rows of a table do not have: register it with a "
            "signature of named columns."
        )
    if isinstance(node.outputs, dict):
        declared: list[tuple[str, str]] = list(node.outputs.items())
    elif outputs is None:
        raise UserError(
            f"{label} declares no outputs: say in node '{node.id}' what they are, such as outputs: "
            "{prediction: double}."
        )
    else:
        declared = [_output(column, position, len(outputs)) for position, column in enumerate(outputs)]
    names = list(node.outputs) if node.outputs else [name for name, _ in declared]
    if len(names) != len(declared):
        raise UserError(
            f"Node '{node.id}' names {len(names)} outputs, and {label} gives {len(declared)} "
            f"({', '.join(name for name, _ in declared)}): name each of them."
        )
    columns = None
    if inputs is not None:
        columns = [(c["name"], c["type"], c.get("required", not c.get("optional", False))) for c in inputs]
    return columns, declared, names


def _output(column: dict[str, Any], position: int, count: int) -> tuple[str, str]:
    name = column.get("name") or ("prediction" if count == 1 else f"prediction_{position}")
    if column["type"] != "tensor":
        return name, column["type"]
    spec = column["tensor-spec"]
    if len(spec["shape"]) > 1:
        return name, "array"
    kinds = {"float32": "float", "float64": "double", "int32": "integer", "int64": "long", "bool": "boolean"}
    return name, kinds.get(spec["dtype"], "string")


def _place(text: str, values: Values, base: str) -> str:
    path = _joined(base, fill(text, values))
    if any(values[name][0] == "path" for name in placeholders(text)):
        _check_reach(path, text)
    return path


def _joined(base: str, path: str) -> str:
    if path.startswith("/") or _SCHEME.match(path):
        return path
    return f"{base.rstrip('/')}/{path}"


def _check_reach(path: str, text: str) -> None:
    """A caller's path may lead below the folders of `[slipway] workflow_dirs` and nowhere else."""
    target = places.normal(path)
    if any(places.is_below(target, places.normal(root)) for root in settings.workflow_dirs()):
        return
    raise UserError(
        f"'{text}' becomes '{path[:200]}' with the parameters given, which is not below "
        f"{', '.join(settings.workflow_dirs())}: name data there, or have its place added to [slipway] workflow_dirs."
    )


def _check_apart(nodes: list[dict[str, Any]], rejects: str) -> None:
    """A re-run replaces what is its own at each output; two in one place would take each other's for it."""
    roots = {f"node '{node['id']}'": places.normal(node["path"]) for node in nodes if node["type"] == "write"}
    clash = places.overlapping({**roots, "rejects": places.normal(rejects)})
    if clash:
        raise UserError(
            f"With the parameters given, {clash[0]} and {clash[1]} write to one place, or one below the other: give "
            "each a folder of its own."
        )


def _options(options: dict[str, Any], values: Values) -> dict[str, str]:
    return {
        name: fill(value, values)
        if isinstance(value, str)
        else str(value).lower()
        if value in (True, False)
        else str(value)
        for name, value in options.items()
    }
