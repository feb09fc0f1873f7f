"""The dialects: one module each, which names its routes and skins them over the Scorer."""

from __future__ import annotations

from collections.abc import Callable

from slipway_scoring.dialects import azureml, inference, mlflow, operations, product, sagemaker
from slipway_scoring.http import Route
from slipway_scoring.scorer import Scorer

_MODULES = (mlflow, sagemaker, azureml, product, inference)


def routes(scorer: Scorer, *, root_path: str, metrics: Callable[[], bytes]) -> list[Route]:
    """Every route of every dialect."""
    found = [route for module in _MODULES for route in module.routes(scorer)]
    return [*found, *operations.routes(scorer, root_path=root_path, metrics=metrics)]
