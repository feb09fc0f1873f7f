"""The models that the servers serve: a logistic regression, a bundle that works on DataFrames, one of fixed cost."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.serving.peers import ROOT, WORK

ROWS = 10_000
SLOW_SECONDS = 0.005


@dataclass(frozen=True)
class Samples:
    """The made models and the bodies to send them."""

    linear: Path
    pickle: Path
    bundle: Path
    slow: Path
    one_linear: bytes
    one_bundle: bytes
    one_bento: bytes
    json: bytes
    csv: bytes
    arrow: bytes


def make() -> Samples:
    """Train, save by MLflow, and write the bodies."""
    import mlflow
    import numpy as np
    import pandas as pd
    import pyarrow as pa
    from mlflow.models import infer_signature
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression

    shutil.rmtree(WORK / "models", ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    frame, target = load_breast_cancer(return_X_y=True, as_frame=True)
    frame.columns = [name.replace(" ", "_") for name in frame.columns]
    model = LogisticRegression(max_iter=10_000).fit(frame, target)
    linear, pickled = WORK / "models" / "linear", WORK / "models" / "linear.pkl"
    example = frame.head(1)
    mlflow.sklearn.save_model(
        model, linear, signature=infer_signature(frame, model.predict(frame)), input_example=example
    )
    bare = LogisticRegression(max_iter=10_000).fit(frame.to_numpy(), target)
    pickled.write_bytes(pickle.dumps(bare))
    bundle, one_bundle = _bundle_model(ROOT / "include" / "model_bundles" / "breast-cancer" / "model_bundle")
    many = pd.concat([frame] * (ROWS // len(frame) + 1), ignore_index=True).head(ROWS)
    many = many * np.random.default_rng(0).normal(1, 0.01, size=many.shape)
    sink = io.BytesIO()
    table = pa.Table.from_pandas(many, preserve_index=False)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return Samples(
        linear,
        pickled,
        bundle,
        _slow_model(),
        one_linear=_split(example),
        one_bundle=one_bundle,
        one_bento=json.dumps({"rows": example.to_numpy().tolist()}).encode(),
        json=_split(many),
        csv=many.to_csv(index=False).encode(),
        arrow=sink.getvalue(),
    )


def _split(frame: Any) -> bytes:
    table = frame.to_dict(orient="split")
    return json.dumps({"dataframe_split": {"columns": table["columns"], "data": table["data"]}}).encode()


def _bundle_model(bundle: Path) -> tuple[Path, bytes]:
    """The bundle as register_model logs it: a plain pyfunc, and what the probe found beside it."""
    import mlflow
    from mlflow.models import ModelSignature

    directory, report = WORK / "models" / "bundle", WORK / "models" / "probe.json"
    scoring = ROOT / "include" / "scoring"
    command = [sys.executable, "-m", "slipway_scoring", "probe", "--bundle", str(bundle), "--output", str(report)]
    subprocess.run(command, check=True, env={"PYTHONPATH": str(scoring)})
    found = json.loads(report.read_bytes())
    mlflow.pyfunc.save_model(
        directory,
        loader_module="bundle_pyfunc",
        data_path=str(bundle),
        code_paths=[str(scoring / "slipway_scoring" / "bundle_pyfunc.py")],
        signature=ModelSignature.from_dict(found["signature"]),
        pip_requirements=["pandas"],
    )
    _manifest(directory, name="bundle", signature=found["signature"], golden=found["golden"],
              rows_independent=found["rows_independent"])  # fmt: skip
    table = found["golden"]["input"]["dataframe_split"]
    return directory, json.dumps({"dataframe_split": {**table, "data": table["data"][:1]}}).encode()


def _slow_model() -> Path:
    """A bundle whose every prediction takes the same time, and cannot be shared."""
    directory = WORK / "models" / "slow"
    code = f"""
        import time

        class CustomPreprocessor:
            def predict(self, frame):
                time.sleep({SLOW_SECONDS})
                return frame["x"].to_numpy()
    """
    (directory / "data" / "code").mkdir(parents=True)
    (directory / "data" / "artifacts").mkdir()
    (directory / "data" / "code" / "custom_preprocess.py").write_text(textwrap.dedent(code))
    flavors = {"python_function": {"loader_module": "bundle_pyfunc", "data": "data"}}
    (directory / "MLmodel").write_text(json.dumps({"flavors": flavors}))
    golden = {"input": {"inputs": {"x": [1.0]}}, "output": [1.0]}
    inputs = json.dumps([{"name": "x", "type": "double", "required": True}])
    _manifest(directory, name="slow", golden=golden, signature={"inputs": inputs, "outputs": None, "params": None})
    return directory


def _manifest(directory: Path, **fields: Any) -> None:
    (directory / "slipway").mkdir()
    (directory / "slipway" / "manifest.json").write_text(json.dumps(fields))
