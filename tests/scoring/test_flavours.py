"""Every flavour predicts what MLflow's own pyfunc predicts, and the common ones load without importing MLflow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import infer_signature
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import ElasticNet, LinearRegression, LogisticRegression, Perceptron, SGDClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from slipway_scoring import loaders
from slipway_scoring.loaders import linear
from tests.scoring.inprocess import InProcess
from tests.scoring.servers import environment

X, y = load_iris(return_X_y=True, as_frame=True)
X.columns = [name.replace(" ", "_") for name in X.columns]
BINARY = (y == 1).astype(int)
BODY = {"dataframe_split": X.to_dict(orient="split")}


def _save(flavor: Any, model: Any, path: Path, output: Any, **more: Any) -> Path:
    more = {"pip_requirements": ["pandas"], **more}  # Inferring them takes MLflow seconds.
    flavor.save_model(model, path, signature=infer_signature(X, output), input_example=X.head(2), **more)
    return path


def _as_mlflow(path: Path) -> Any:
    result = mlflow.pyfunc.load_model(str(path)).predict(X)
    return result.to_dict(orient="records") if isinstance(result, pd.DataFrame) else np.asarray(result).tolist()


@pytest.fixture
def saved(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A model directory that MLflow wrote, of the flavour that the parameter names."""
    path: Path = globals()[f"_{request.param}"](tmp_path / "model")
    return path


def _sklearn(path: Path) -> Path:
    model = LogisticRegression(max_iter=1000).fit(X, y)
    return _save(mlflow.sklearn, model, path, model.predict(X))


def _probabilities(path: Path) -> Path:
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(X, y)
    return _save(mlflow.sklearn, model, path, model.predict_proba(X), pyfunc_predict_fn="predict_proba",
                 serialization_format="cloudpickle")  # fmt: skip


def _by_name(path: Path) -> Path:
    columns = ColumnTransformer([("scale", StandardScaler(), list(X.columns[:2]))], remainder="passthrough")
    model = make_pipeline(columns, RandomForestClassifier(n_estimators=5, random_state=0)).fit(X, y)
    return _save(mlflow.sklearn, model, path, model.predict(X), serialization_format="pickle")


def _xgboost(path: Path) -> Path:
    import xgboost

    model = xgboost.XGBClassifier(n_estimators=5).fit(X, y)
    return _save(mlflow.xgboost, model, path, model.predict(X))


def _booster(path: Path) -> Path:
    import xgboost

    model = xgboost.train({"max_depth": 2}, xgboost.DMatrix(X, BINARY), num_boost_round=5)
    return _save(mlflow.xgboost, model, path, model.predict(xgboost.DMatrix(X)))


def _lightgbm(path: Path) -> Path:
    import lightgbm

    model = lightgbm.LGBMClassifier(n_estimators=5, verbose=-1).fit(X, y)
    return _save(mlflow.lightgbm, model, path, model.predict(X), serialization_format="cloudpickle")


def _onnx(path: Path) -> Path:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.arange(4, dtype=np.float32).reshape(4, 1), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 1])], [weights],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.checker.check_model(model)
    return _save(mlflow.onnx, model, path, pd.DataFrame({"y": [1.0]}))


FLAVOURS = ["sklearn", "probabilities", "by_name", "xgboost", "booster", "lightgbm", "onnx"]


@pytest.mark.parametrize("saved", FLAVOURS, indirect=True)
def test_flavours_predict_as_mlflow(saved: Path, request: pytest.FixtureRequest) -> None:
    expected = _as_mlflow(saved)
    with InProcess(saved) as server:
        found = server.predict(BODY)
        assert server.model.flavor != "pyfunc"
        flat = pd.json_normalize(found) if isinstance(found[0], dict) else np.array(found)
        wanted = pd.json_normalize(expected) if isinstance(expected[0], dict) else np.array(expected)
        np.testing.assert_allclose(flat, wanted, rtol=1e-6)
    script = (
        "import sys; from pathlib import Path; from slipway_scoring.loaders import load; "
        f"load(Path({str(saved)!r})).rehearse(); assert 'mlflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], env=environment(), check=True)
    assert request.node


class Doubler(mlflow.pyfunc.PythonModel):
    """A user-defined pyfunc with params."""

    def predict(self, context: Any, model_input: Any, params: dict[str, Any] | None = None) -> Any:
        """Twice the first column, plus a parameter."""
        return model_input.iloc[:, 0].to_numpy() * 2 + (params or {})["plus"]


def test_any_other_pyfunc(tmp_path: Path) -> None:
    signature = infer_signature(X, [1.0], params={"plus": 1.0})
    mlflow.pyfunc.save_model(tmp_path / "m", python_model=Doubler(), signature=signature, pip_requirements=[])
    with InProcess(tmp_path / "m") as server:
        assert server.model.flavor == "pyfunc"
        row = X.head(1).to_dict(orient="records")
        assert server.predict({"dataframe_records": row}) == [pytest.approx(11.2)]
        assert server.predict({"dataframe_records": row, "params": {"plus": 3}}) == [pytest.approx(13.2)]


def test_a_signature_from_type_hints(tmp_path: Path) -> None:
    @mlflow.pyfunc.utils.pyfunc
    def shout(model_input: list[str]) -> list[str]:
        return [text.upper() for text in model_input]

    mlflow.pyfunc.save_model(tmp_path / "m", python_model=shout, input_example=["a"], pip_requirements=["mlflow"])
    with InProcess(tmp_path / "m") as server:
        assert server.predict({"inputs": ["a", "b"]}) == ["A", "B"]
        server.refusal({"instances": ["a"]})
        server.refusal({"inputs": [1]})


@pytest.mark.parametrize(
    "estimator",
    [
        LogisticRegression(max_iter=1000),
        Perceptron(),
        SGDClassifier(random_state=0),
        make_pipeline(StandardScaler(), LogisticRegression()),
        make_pipeline(StandardScaler(with_mean=False), StandardScaler(with_std=False), Perceptron()),
    ],
)
@pytest.mark.parametrize("target", [y, BINARY, y.map({0: "a", 1: "b", 2: "c"})])
def test_linear_classifiers_to_the_last_bit(estimator: Any, target: Any) -> None:
    model = clone(estimator).fit(X.to_numpy(), target)
    quick = linear.shortcut([step for _, step in model.steps] if hasattr(model, "steps") else [model])
    assert quick is not None
    for rows in (1, 7, len(X)):
        values = np.ascontiguousarray(X.to_numpy()[:rows])
        np.testing.assert_array_equal(quick(values), model.predict(values))


@pytest.mark.parametrize("estimator", [LinearRegression(), ElasticNet()])
@pytest.mark.parametrize("outputs", [1, 2])
def test_linear_regressors_to_the_last_bit(estimator: Any, outputs: int) -> None:
    data, target = load_diabetes(return_X_y=True)
    model = clone(estimator).fit(data, target if outputs == 1 else np.stack([target, -target], axis=1))
    quick = linear.shortcut([model])
    assert quick is not None
    np.testing.assert_array_equal(quick(data), model.predict(data))


def test_no_shortcut_for_what_is_not_plainly_linear() -> None:
    class Odd(LogisticRegression):
        def predict(self, values: Any) -> Any:
            return -super().predict(values)

    for steps in ([Odd().fit(X, BINARY)], [SVC().fit(X, y)], [MinMaxScaler().fit(X), LogisticRegression().fit(X, y)]):
        assert linear.shortcut(steps) is None


def test_an_mlflow_uri_is_downloaded(tmp_path: Path) -> None:
    from slipway_scoring.serve import find_model

    _sklearn(tmp_path / "model")
    found = find_model(f"file://{tmp_path}/model")
    assert found != tmp_path / "model"
    assert (found / "MLmodel").read_bytes() == (tmp_path / "model" / "MLmodel").read_bytes()


def test_a_missing_package_is_named(tmp_path: Path) -> None:
    from slipway_scoring.model import ModelLoadError
    from tests.scoring.models import write_mlmodel

    flavors = {"python_function": {"loader_module": "mlflow.sklearn", "model_path": "m"}, "sklearn": {}}
    directory = write_mlmodel(tmp_path / "m", flavors, None)
    (directory / "m").write_bytes(b"cno_such_package\nx\n.")
    with pytest.raises(ModelLoadError, match="'no_such_package', which is not installed"):
        loaders.load(directory)
