"""scikit-learn models, and how to call them without paying for what the signature has already checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slipway_scoring.loaders import linear, pickles
from slipway_scoring.model import ModelLoadError, Predictor
from slipway_scoring.schema import Signature

_NAMELESS = frozenset(
    {
        "cluster",
        "decomposition",
        "discriminant_analysis",
        "ensemble",
        "gaussian_process",
        "isotonic",
        "kernel_approximation",
        "kernel_ridge",
        "linear_model",
        "naive_bayes",
        "neighbors",
        "neural_network",
        "preprocessing",
        "svm",
        "tree",
    }
)
"""Packages of scikit-learn whose estimators compute on bare arrays and use column names only to check them."""


def load(directory: Path, description: dict[str, Any]) -> Predictor:
    """Load the estimator and find its cheapest faithful call."""
    pyfunc = description["flavors"]["python_function"]
    flavor = description["flavors"].get("sklearn", {})
    path = directory / (pyfunc.get("model_path") or flavor.get("pickled_model") or "model.pkl")
    estimator = pickles.read(path, flavor, "pickle")
    method = getattr(estimator, pyfunc.get("predict_fn", "predict"), None)
    if method is None:
        raise ModelLoadError(
            f"The estimator {type(estimator).__name__} has no method {pyfunc.get('predict_fn', 'predict')}: save the "
            "model with a pyfunc_predict_fn that it has."
        )
    inputs = Signature.parse(description.get("signature")).inputs
    names = inputs.names if inputs is not None and inputs.columns else ()
    bare = _works_on_arrays(estimator, names)
    independent = method.__name__.startswith("predict") and _is_known(estimator)
    return Predictor(
        _validated(estimator, method) if bare else _plain(method),
        bare_arrays=bare,
        rows_independent=independent or None,
    )


def _plain(method: Callable[[Any], Any]) -> Callable[[Any, Mapping[str, Any] | None], Any]:
    return lambda data, _params: method(data)


def _validated(estimator: Any, method: Callable[[Any], Any]) -> Callable[[Any, Mapping[str, Any] | None], Any]:
    """Spare scikit-learn its own look for NaN: one here costs a tenth, and only what has none takes the short way."""
    from sklearn import config_context

    quick = linear.shortcut(_steps(estimator)) if method.__name__ == "predict" else None

    def call(data: Any, _params: Mapping[str, Any] | None) -> Any:
        if isinstance(data, pd.DataFrame):  # A client gave an index of its own.
            data = data.to_numpy()
        # Adding up finds a NaN or infinity in one pass; a sum that only overflowed goes the long way, no harm done.
        if isinstance(data, np.ndarray) and data.dtype == np.float64 and len(data) and math.isfinite(data.sum()):
            if quick is not None:
                return quick(data)
            with config_context(assume_finite=True, skip_parameter_validation=True):
                return method(data)
        return method(data)

    return call


def _works_on_arrays(estimator: Any, names: tuple[str, ...]) -> bool:
    """Whether a bare array in the signature's order gives what a DataFrame gives.

    If so, the names that the estimator was fitted with are taken off this copy of it, so that scikit-learn does not
    warn about their absence at every prediction.
    """
    steps = _steps(estimator)
    if not names or not all(_is_nameless(step, names) for step in steps):
        return False
    for step in steps:
        if hasattr(step, "feature_names_in_"):
            del step.feature_names_in_
    return True


def _is_known(estimator: Any) -> bool:
    """Whether it is made of scikit-learn's (or the tree libraries') own estimators alone: those predict row by row."""
    parts = [estimator, *estimator.get_params(deep=True).values()] if hasattr(estimator, "get_params") else [estimator]
    return all(
        type(part).__module__.partition(".")[0] in {"sklearn", "xgboost", "lightgbm"}
        and type(part).__name__ != "FunctionTransformer"
        for part in parts
        if hasattr(part, "fit")
    )


def _steps(estimator: Any) -> list[Any]:
    is_pipeline = type(estimator).__module__ == "sklearn.pipeline" and type(estimator).__name__ == "Pipeline"
    return [step for _, step in estimator.steps] if is_pipeline else [estimator]


def _is_nameless(step: Any, names: tuple[str, ...]) -> bool:
    if isinstance(step, str) and step == "passthrough":
        return True
    package = type(step).__module__.split(".")
    fitted = getattr(step, "feature_names_in_", None)
    return (
        package[0] == "sklearn"
        and package[1] in _NAMELESS
        and type(step).__name__ != "FunctionTransformer"
        and not hasattr(step, "_sklearn_output_config")
        and (fitted is None or tuple(fitted) == names)
    )
