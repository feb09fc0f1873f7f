"""A Slipway bundle, by the very module that is copied next to the model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway_scoring.bundle_pyfunc import BundleModel
from slipway_scoring.model import Predictor


def load(directory: Path, description: dict[str, Any]) -> Predictor:
    """Load the bundle in the model's data directory."""
    data = description["flavors"]["python_function"].get("data", "data")
    model = BundleModel((directory / data).resolve())

    def call(frame: Any, params: Mapping[str, Any] | None) -> Any:
        return model.predict(frame, dict(params) if params else None)

    return Predictor(call)
