"""Model directories for the tests: written by hand where MLflow would take seconds, and equal to what it writes."""

from __future__ import annotations

import json
import pickle
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml

import slipway_scoring.bundle_pyfunc

IRIS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
IRIS_ROW = [5.1, 3.5, 1.4, 0.2]

MIXED: list[dict[str, Any]] = [
    {"name": "number", "type": "double"},
    {"name": "count", "type": "long"},
    {"name": "flag", "type": "boolean"},
    {"name": "text", "type": "string"},
    {"name": "when", "type": "datetime"},
    {"name": "blob", "type": "binary"},
    {"name": "tags", "type": "array", "items": {"type": "string"}},
    {
        "name": "place",
        "type": "object",
        "required": False,
        "properties": {
            "lat": {"type": "double", "required": True},
            "lon": {"type": "double", "required": True},
            "name": {"type": "string", "required": False},
        },
    },
]
MIXED_ROW: dict[str, Any] = {
    "number": 1.5,
    "count": 3,
    "flag": True,
    "text": "abc",
    "when": "2026-01-02T03:04:05",
    "blob": "aGVsbG8=",
    "tags": ["x", "y"],
    "place": {"lat": 1.0, "lon": 2.0},
}
MIXED_CODE = """
    import pandas as pd

    class CustomPreprocessor:
        def predict(self, frame):
            return pd.DataFrame({
                "total": frame["number"].fillna(0) + frame["count"],
                "words": frame["text"].str.len().fillna(-1).astype("int64") + frame["flag"].astype("int64"),
                "bytes": [len(blob) for blob in frame["blob"]],
                "tags": [len(tags) for tags in frame["tags"]],
                "year": frame["when"].dt.year,
            })
"""
FAULTY_CODE = """
    import os
    import signal
    import time

    class CustomPreprocessor:
        def predict(self, frame):
            for seconds, deed in zip(frame["seconds"], frame["deed"]):
                if deed == "die":
                    os._exit(9)
                if deed == "exit":
                    raise SystemExit("gone")
                if deed == "stop":
                    raise StopIteration
                if deed == "raise":
                    raise RuntimeError("secret detail /etc/passwd")
                if deed == "spin":
                    while True:
                        pass
                if deed == "cling":
                    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
                time.sleep(seconds)
            return frame["seconds"].to_numpy()
"""
FAULTY = [{"name": "seconds", "type": "double"}, {"name": "deed", "type": "string"}]


def columns(names: Sequence[str], kind: str = "double") -> list[dict[str, Any]]:
    """A column signature of one type."""
    return [{"name": name, "type": kind} for name in names]


def signature(
    inputs: Sequence[Mapping[str, Any]], params: Sequence[Mapping[str, Any]] | None = None
) -> dict[str, str | None]:
    """What `ModelSignature.to_dict()` gives."""
    full = [item if item["type"] == "tensor" else {"required": True, **item} for item in inputs]
    return {"inputs": json.dumps(full), "outputs": None, "params": None if params is None else json.dumps(params)}


def write_mlmodel(directory: Path, flavors: Mapping[str, Any], declared: Mapping[str, Any] | None) -> Path:
    """The `MLmodel` file."""
    directory.mkdir(parents=True, exist_ok=True)
    document = {"flavors": flavors, "mlflow_version": "3.17.2", "signature": declared}
    (directory / "MLmodel").write_text(yaml.safe_dump(document))
    return directory


def sklearn_model(directory: Path, estimator: Any, inputs: Sequence[Mapping[str, Any]] | None) -> Path:
    """A scikit-learn flavoured model."""
    write_mlmodel(
        directory,
        {
            "python_function": {"loader_module": "mlflow.sklearn", "model_path": "model.pkl", "predict_fn": "predict"},
            "sklearn": {"pickled_model": "model.pkl", "serialization_format": "pickle"},
        },
        None if inputs is None else signature(inputs),
    )
    (directory / "model.pkl").write_bytes(pickle.dumps(estimator))
    return directory


def iris_model(directory: Path) -> Path:
    """A logistic regression on real data, with its golden sample."""
    import pandas as pd
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    data, target = load_iris(return_X_y=True)
    frame = pd.DataFrame(data, columns=IRIS)
    model = LogisticRegression(max_iter=1000).fit(frame, target)
    sklearn_model(directory, model, columns(IRIS))
    golden = {
        "input": {"dataframe_split": {"columns": IRIS, "data": frame.head(3).to_numpy().tolist()}},
        "output": model.predict(frame.head(3)).tolist(),
    }
    return write_manifest(directory, name="iris", golden=golden, signature=signature(columns(IRIS)))


def write_manifest(directory: Path, **fields: Any) -> Path:
    """`slipway/manifest.json`."""
    (directory / "slipway").mkdir(exist_ok=True)
    (directory / "slipway" / "manifest.json").write_text(json.dumps(fields))
    return directory


def bundle(directory: Path, code: str, **files: str) -> Path:
    """A normalised bundle directory."""
    (directory / "artifacts").mkdir(parents=True)
    (directory / "code").mkdir()
    (directory / "code" / "custom_preprocess.py").write_text(textwrap.dedent(code))
    (directory / "requirements.txt").write_text("pandas\n")
    for name, text in files.items():
        path = directory / name.replace("__", "/").replace("_DOT_", ".")
        path.write_text(textwrap.dedent(text))
    return directory


def bundle_model(
    directory: Path, code: str, inputs: Sequence[Mapping[str, Any]] | None = None, **manifest: Any
) -> Path:
    """A registered bundle: an MLflow model directory with the bundle in `data/`."""
    flavor = {"loader_module": "bundle_pyfunc", "code": "code", "data": "data"}
    declared = signature(inputs) if inputs is not None else None
    write_mlmodel(directory, {"python_function": flavor}, declared)
    (directory / "code").mkdir()
    shutil.copy(slipway_scoring.bundle_pyfunc.__file__, directory / "code" / "bundle_pyfunc.py")
    bundle(directory / "data", code)
    return write_manifest(directory, **{"name": "bundle", "signature": declared, **manifest})


def mixed_model(directory: Path, **manifest: Any) -> Path:
    """A bundle with a column of every kind."""
    golden = {"input": {"dataframe_records": [MIXED_ROW]}, "output": None}
    return bundle_model(directory, MIXED_CODE, MIXED, rows_independent=True, golden=golden, **manifest)


def faulty_model(directory: Path, **manifest: Any) -> Path:
    """A bundle that sleeps, raises, spins or dies, as its input says."""
    golden = {"input": {"dataframe_records": [{"seconds": 0.0, "deed": ""}]}, "output": [0.0]}
    return bundle_model(directory, FAULTY_CODE, FAULTY, golden=golden, **manifest)


def tensor_model(directory: Path) -> Path:
    """An unnamed tensor in, its row sums out."""
    code = """
        class CustomPreprocessor:
            def predict(self, frame):
                return frame.to_numpy().sum(axis=1)
    """
    inputs = [{"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 3]}}]
    return bundle_model(directory, code, inputs, rows_independent=True)


def random_rows(count: int, width: int, seed: int = 0) -> list[list[float]]:
    """Rows of doubles."""
    rows: list[list[float]] = np.random.default_rng(seed).normal(size=(count, width)).tolist()
    return rows
