"""Any other MLflow model: PyTorch, Spark ML, user-defined pyfuncs. The one loader that imports MLflow (6 s)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from slipway_scoring.model import Predictor


def load(directory: Path, description: dict[str, Any]) -> Predictor:
    """Load by `mlflow.pyfunc.load_model`, in this process and environment."""
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(directory))
    takes_params = model.metadata.get_params_schema() is not None

    def call(data: Any, params: Mapping[str, Any] | None) -> Any:
        return model.predict(data, params=dict(params or {})) if takes_params else model.predict(data)

    return Predictor(call, takes_raw_inputs=bool(description.get("is_signature_from_type_hint")))
