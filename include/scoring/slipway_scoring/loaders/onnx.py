"""ONNX models on onnxruntime, called as MLflow's wrapper calls them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slipway_scoring.model import Predictor


def load(directory: Path, description: dict[str, Any]) -> Predictor:
    """Make an inference session. Doubles become floats where the graph wants those, as MLflow does."""
    import onnxruntime

    flavor = description["flavors"]["onnx"]
    path = directory / flavor.get("data", "model.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ.get("OMP_NUM_THREADS", "0"))
    wanted = [provider if isinstance(provider, str) else provider[0] for provider in flavor.get("providers") or []]
    usable = [provider for provider in wanted if provider in onnxruntime.get_available_providers()]
    session = onnxruntime.InferenceSession(str(path), options, providers=usable or ["CPUExecutionProvider"])
    inputs = {item.name: item.type for item in session.get_inputs()}
    outputs = [item.name for item in session.get_outputs()]
    only = next(iter(inputs)) if len(inputs) == 1 else None

    def feed(data: Any) -> dict[str, Any]:
        if isinstance(data, pd.DataFrame):
            return {only: data.to_numpy()} if only else {name: data[name].to_numpy() for name in inputs}
        if isinstance(data, Mapping):
            return dict(data)
        if only is None:
            raise TypeError(f"the model has {len(inputs)} inputs, which must be named")
        return {only: data}

    def call(data: Any, _params: Mapping[str, Any] | None) -> Any:
        fed = {
            name: value.astype(np.float32) if inputs.get(name) == "tensor(float)" else value
            for name, value in feed(data).items()
        }
        predicted = session.run(outputs, fed)
        if isinstance(data, pd.DataFrame):
            return pd.DataFrame(
                {name: np.asarray(out).reshape(-1) for name, out in zip(outputs, predicted, strict=True)}
            )
        return dict(zip(outputs, predicted, strict=True))

    return Predictor(call)
