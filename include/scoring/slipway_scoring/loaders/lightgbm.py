"""LightGBM models, called as MLflow's wrapper calls them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway_scoring.loaders import pickles
from slipway_scoring.model import Predictor


def load(directory: Path, description: dict[str, Any]) -> Predictor:
    """Load a Booster or one of the scikit-learn classes of LightGBM."""
    flavor = description["flavors"]["lightgbm"]
    path = directory / flavor["data"]
    if flavor.get("model_class", "lightgbm.basic.Booster") == "lightgbm.basic.Booster":
        import lightgbm

        model = lightgbm.Booster(model_file=str(path))
    else:
        model = pickles.read(path, flavor, "cloudpickle")

    def call(data: Any, _params: Mapping[str, Any] | None) -> Any:
        return model.predict(data)

    return Predictor(call, rows_independent=True)
