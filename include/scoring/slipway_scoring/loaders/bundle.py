"""A Slipway bundle, by the very module that is copied next to the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from slipway_scoring.bundle_pyfunc import BundleModel
from slipway_scoring.model import Predictor


def load(directory: Path, description: dict[str, Any]) -> Predictor:
    """Load the bundle in the model's data directory."""
    data = description["flavors"]["python_function"].get("data", "data")
    return Predictor(BundleModel((directory / data).resolve()).predict)
