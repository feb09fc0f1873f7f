"""The three ways in which MLflow writes a scikit-learn or LightGBM estimator to a file."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from slipway_scoring.model import ModelLoadError


def read(path: Path, flavor: Mapping[str, Any], default: str) -> Any:
    """Read the estimator in `path`. A model is code: whoever serves it has chosen to trust it."""
    way = flavor.get("serialization_format", default)
    if way == "skops":
        return import_module("skops.io").load(path, trusted=flavor.get("skops_trusted_types"))
    if way == "cloudpickle":
        return import_module("cloudpickle").loads(path.read_bytes())
    if way == "pickle":
        return pickle.loads(path.read_bytes())  # noqa: S301 -- the model's own file, never a payload
    raise ModelLoadError(f"{path} is written as '{way}': the server reads skops, cloudpickle and pickle.")
