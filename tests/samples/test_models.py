"""The sample bundles are what their script trains, and they score."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from tests.samples.bundles import ROOT, load_script, predict, sample


@pytest.fixture(scope="module")
def retrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bundles with artifacts that were trained just now."""
    root = tmp_path_factory.mktemp("retrained")
    for name in ("breast-cancer", "diabetes-boosted", "wine-no-sample"):
        shutil.copytree(ROOT / name, root / name)
        shutil.rmtree(root / name / "model_bundle" / "artifacts")
    load_script("train").train(root)
    return root


def breast_cancer_rows() -> pd.DataFrame:
    data = load_breast_cancer(as_frame=True).data
    frame = data[[column for column in data if column.startswith("mean ")]]
    return frame.rename(columns=lambda column: column.removeprefix("mean ").replace(" ", "_"))


def diabetes_rows() -> pd.DataFrame:
    names = {"s1": "tc", "s2": "ldl", "s3": "hdl", "s4": "tch", "s5": "ltg", "s6": "glu"}
    return load_diabetes(as_frame=True, scaled=False).data.rename(columns=names)


def wine_rows() -> pd.DataFrame:
    return load_wine(as_frame=True).data.rename(columns=lambda column: column.replace("/", "_"))


def test_breast_cancer_is_what_the_script_trains(retrained: Path) -> None:
    rows = breast_cancer_rows()
    committed = predict(ROOT / "breast-cancer" / "model_bundle", rows)
    anew = predict(retrained / "breast-cancer" / "model_bundle", rows)
    assert committed["diagnosis"].tolist() == anew["diagnosis"].tolist()
    np.testing.assert_allclose(committed["probability"], anew["probability"], rtol=1e-6)


def test_diabetes_is_what_the_script_trains(retrained: Path) -> None:
    rows = diabetes_rows()
    committed = predict(ROOT / "diabetes-boosted" / "model_bundle", rows)
    np.testing.assert_allclose(committed, predict(retrained / "diabetes-boosted" / "model_bundle", rows), rtol=1e-4)


def test_wine_is_what_the_script_trains(retrained: Path) -> None:
    rows = wine_rows()
    committed = predict(ROOT / "wine-no-sample" / "model_bundle", rows)
    assert list(committed) == list(predict(retrained / "wine-no-sample" / "model_bundle", rows))


@pytest.mark.parametrize("name", ["breast-cancer", "diabetes-boosted"])
def test_the_sample_is_what_the_script_writes(name: str, retrained: Path) -> None:
    written = retrained / name / "model_bundle" / "sample_input.json"
    assert written.read_bytes() == (ROOT / name / "model_bundle" / "sample_input.json").read_bytes()


def test_the_models_are_good_at_what_they_do() -> None:
    cancer = load_breast_cancer(as_frame=True)
    diagnosis = predict(ROOT / "breast-cancer" / "model_bundle", breast_cancer_rows())["diagnosis"]
    assert np.mean(diagnosis.to_numpy() == cancer.target_names[cancer.target]) > 0.9
    progression = predict(ROOT / "diabetes-boosted" / "model_bundle", diabetes_rows())
    assert np.corrcoef(progression, load_diabetes().target)[0, 1] > 0.7
    cultivar = predict(ROOT / "wine-no-sample" / "model_bundle", wine_rows())
    assert np.mean(np.asarray(cultivar) == [f"cultivar_{1 + number}" for number in load_wine().target]) > 0.95


def test_the_skeleton_scores_as_it_stands() -> None:
    bundle = ROOT / "skeleton" / "model_bundle"
    answer = predict(bundle, sample(bundle))
    assert answer.to_dict("records") == [
        {"score": 20 + 6 * 4.5 + 14 * 1.25, "decision": "accept"},
        {"score": 20 + 1.5 * 4.5 + 3 * 1.25 - 2 * 12, "decision": "review"},
    ]


def test_the_skeleton_explains_every_method() -> None:
    import ast

    code = (ROOT / "skeleton" / "model_bundle" / "code" / "custom_preprocess.py").read_text()
    [model] = [node for node in ast.parse(code).body if isinstance(node, ast.ClassDef)]
    methods = {node.name: ast.get_docstring(node) for node in model.body if isinstance(node, ast.FunctionDef)}
    assert list(methods) == ["load", "preprocess", "predict", "postprocess"]
    assert methods.pop("predict", "").startswith("Required.")
    assert all(text.startswith("Optional.") for text in methods.values())
