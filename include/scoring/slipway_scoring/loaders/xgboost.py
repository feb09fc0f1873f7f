"""XGBoost models, called as MLflow's wrapper calls them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from slipway_scoring.model import Predictor


def load(directory: Path, description: dict[str, Any]) -> Predictor:
    """Load a Booster or one of the scikit-learn classes of XGBoost."""
    import xgboost

    flavor = description["flavors"]["xgboost"]
    module, _, name = flavor.get("model_class", "xgboost.core.Booster").rpartition(".")
    model = getattr(import_module(module), name)()
    model.load_model(directory / flavor["data"])
    accepted = set(inspect.signature(model.predict).parameters)

    def known(params: Mapping[str, Any] | None) -> dict[str, Any]:
        return {key: value for key, value in (params or {}).items() if key in accepted}

    if isinstance(model, xgboost.Booster):

        def call(data: Any, params: Mapping[str, Any] | None) -> Any:
            return model.predict(xgboost.DMatrix(data), **{"validate_features": True, **known(params)})

    else:

        def call(data: Any, params: Mapping[str, Any] | None) -> Any:
            return model.predict(data, **{"validate_features": True, **known(params)})

    return Predictor(call, rows_independent=True)
