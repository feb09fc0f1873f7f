"""The plan of one execution, as the `resolve` task writes it: plain JSON, with every placeholder already filled in."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from slipway_spark.relay import ModelPlace

__all__ = ["ModelUse", "Plan"]


@dataclass(frozen=True)
class ModelUse:
    """A model as one `score` node uses it.

    Args:
        label: for people, such as `breast-cancer version 3`.
        place: where executors find it.
        inputs: (name, MLflow type, required) of each input column; None if the model declares none.
        outputs: (name, MLflow type) of each output column.
    """

    label: str
    place: ModelPlace
    inputs: list[tuple[str, str, bool]] | None
    outputs: list[tuple[str, str]]

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read one entry of the plan's `models`."""
        outputs = [(name, kind) for name, kind in raw["outputs"]]
        place = ModelPlace(
            model=raw["model"],
            environment=raw["environment"],
            code=tuple(raw["code"]),
            python=raw["python"],
            outputs=json.dumps(outputs),
        )
        inputs = raw["inputs"]
        columns = None if inputs is None else [(name, kind, required) for name, kind, required in inputs]
        return cls(raw["label"], place, columns, outputs)


@dataclass(frozen=True)
class Plan:
    """One execution of one workflow.

    Args:
        execution: its id; the output directory is named for it.
        attempt: a name that no other try of this execution has.
        workflow: the workflow's name.
        nodes: the nodes, inputs before those that take them.
        parameters: values for the markers in SQL, as (type, text) by name.
        models: for each score node, its model.
        rejects: where rejected rows go (`path`), and the share of rows above which the job fails (`max_share`).
        remote: address of a Spark Connect server; None under spark-submit.
        conf: Spark settings of a Connect session; spark-submit gets its own.
        archives, python_files: what a Connect server's executors must be sent.
        owner: process on this host that the job must not outlive; None for no such process.
    """

    execution: str
    attempt: str
    workflow: str
    nodes: list[dict[str, Any]]
    parameters: dict[str, tuple[str, str | None]]
    models: dict[str, ModelUse]
    rejects: dict[str, Any]
    remote: str | None = None
    conf: dict[str, str] = field(default_factory=dict)
    archives: list[str] = field(default_factory=list)
    python_files: list[str] = field(default_factory=list)
    owner: int | None = None

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan file."""
        raw = json.loads(path.read_bytes())
        raw["models"] = {node: ModelUse.from_json(use) for node, use in raw["models"].items()}
        raw["parameters"] = {name: (kind, text) for name, (kind, text) in raw["parameters"].items()}
        return cls(**raw)
