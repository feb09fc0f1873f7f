"""The model directory that a bundle becomes, in the hands of MLflow itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from slipway.domain import GoldenSample, ModelManifest, Signature
from slipway.model_files import write_model

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "include" / "model_bundles" / "breast-cancer" / "model_bundle"
LOADER = ROOT / "include" / "scoring" / "slipway_scoring" / "bundle_pyfunc.py"

PREDICT = """
import json, sys
import mlflow, pandas as pd
frame = pd.DataFrame(**json.loads(sys.argv[2]))
print(json.dumps(mlflow.pyfunc.load_model(sys.argv[1]).predict(frame).to_dict("records")))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    split = json.loads((BUNDLE / "sample_input.json").read_text())
    split = split.get("dataframe_split", split)
    columns = [{"name": name, "type": "double", "required": True} for name in split["columns"]]
    manifest = ModelManifest(
        bundle_digest="b" * 64,
        lock_digest="c" * 64,
        signature=Signature(inputs=json.dumps(columns), outputs=json.dumps([{"type": "string", "required": True}])),
        golden=GoldenSample(input={"dataframe_split": split}, output=[]),
    )
    path = tmp_path_factory.mktemp("model") / "model"
    write_model(
        path, BUNDLE, manifest, lock="# python: 3.11\n", requirements=["scikit-learn==1.9.1"], loader=LOADER
    )  # fmt: skip
    return path


def test_mlflow_loads_it_in_a_process_that_has_nothing_of_ours(model: Path, tmp_path: Path) -> None:
    split = json.loads((model / "slipway" / "manifest.json").read_text())["golden"]["input"]["dataframe_split"]
    split.pop("index", None)
    command = [sys.executable, "-c", PREDICT, str(model), json.dumps(split)]
    run = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env={"PYTHONDONTWRITEBYTECODE": "1"}, check=False
    )
    assert run.returncode == 0, run.stderr
    answer = json.loads(run.stdout)
    assert len(answer) == len(split["data"])
    assert {row["diagnosis"] for row in answer} <= {"malignant", "benign"}


def test_it_is_laid_out_as_every_target_expects(model: Path) -> None:
    described = yaml.safe_load((model / "MLmodel").read_text())
    pyfunc = described["flavors"]["python_function"]
    assert pyfunc["loader_module"] == "bundle_pyfunc"
    assert (model / pyfunc["code"] / "bundle_pyfunc.py").read_bytes() == LOADER.read_bytes()
    data = model / pyfunc["data"]
    for file in BUNDLE.rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert (data / file.relative_to(BUNDLE)).read_bytes() == file.read_bytes()
    assert described["metadata"]["slipway"] == {"bundle_digest": "b" * 64, "lock_digest": "c" * 64}
    assert (model / "slipway" / "requirements.lock").read_text() == "# python: 3.11\n"
    assert (model / "requirements.txt").read_text().splitlines()[-1] == "scikit-learn==1.9.1"
    assert not any(path.suffix == ".pyc" for path in model.rglob("*"))
    assert described["saved_input_example_info"]["type"] == "dataframe"
