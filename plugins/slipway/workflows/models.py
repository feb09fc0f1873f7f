"""Whether the models that a definition names are registered."""

from __future__ import annotations

from slipway.errors import UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.registry import Registry
from slipway.workflows.catalog import Problem
from slipway.workflows.definition import Definition, ScoreNode
from slipway.workflows.values import placeholders

__all__ = ["unknown_models"]


def unknown_models(definition: Definition, mlflow: MlflowHook) -> list[Problem]:
    """Return a problem for each model, version or alias that MLflow does not have.

    A model whose name has a parameter in it is looked up when an execution gives the parameter.

    :raises Unavailable: if MLflow does not answer.
    """
    registry = Registry(mlflow)
    problems = []
    for position, node in enumerate(definition.nodes):
        if isinstance(node, ScoreNode) and not placeholders(node.model):
            try:
                registry.resolve(node.model, node.version, node.alias)
            except UserError as e:
                problems.append(Problem(f"nodes.{position}.model", str(e)))
    return problems
