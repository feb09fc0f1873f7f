"""The signature is enforced as MLflow enforces it: the same frames pass, become the same, or are refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.models.utils import _enforce_schema
from mlflow.types import Schema as MlflowSchema

from slipway_scoring import enforce
from slipway_scoring.errors import BadPayload
from slipway_scoring.schema import Signature
from tests.scoring import models
from tests.scoring.inprocess import InProcess
from tests.scoring.models import IRIS, IRIS_ROW, MIXED_ROW

COLUMNS = {
    "double": pd.Series([1.5, np.nan]),
    "float": pd.Series([1.5, 2.5], dtype="float32"),
    "long": pd.Series([1, 2**40]),
    "small long": pd.Series([0, 1]),
    "integer": pd.Series([1, 2], dtype="int32"),
    "short": pd.Series([1, 2], dtype="int16"),
    "unsigned": pd.Series([1, 2], dtype="uint32"),
    "big unsigned": pd.Series([1, 2], dtype="uint64"),
    "boolean": pd.Series([True, False]),
    "maybe": pd.Series([True, None], dtype=object),
    "string": pd.Series(["a", None], dtype=object),
    "pandas string": pd.Series(["a", "b"], dtype="string"),
    "bytes": pd.Series([b"a", b"b"], dtype=object),
    "datetime": pd.Series(pd.to_datetime(["2026-01-01", "2026-01-02"])),
    "datetime s": pd.Series(np.array(["2026-01-01", "2026-01-02"], dtype="datetime64[s]")),
    "zoned": pd.Series(pd.to_datetime(["2026-01-01", "2026-01-02"], utc=True)),
    "dates as text": pd.Series(["2026-01-01", "2026-01-02"], dtype=object),
    "objects of ints": pd.Series([1, 2], dtype=object),
    "objects of floats": pd.Series([1.5, None], dtype=object),
}
TYPES = ["boolean", "integer", "long", "float", "double", "string", "binary", "datetime"]


@pytest.mark.parametrize("declared", TYPES)
@pytest.mark.parametrize("given", COLUMNS)
def test_columns_as_mlflow(declared: str, given: str) -> None:
    text = json.dumps([{"name": "x", "type": declared, "required": True}])
    frame = pd.DataFrame({"more": 1, "x": COLUMNS[given]})
    schema = Signature.parse({"inputs": text}).inputs
    assert schema is not None
    try:
        expected = _enforce_schema(frame.copy(), MlflowSchema.from_json(text))
    except (MlflowException, TypeError):
        with pytest.raises(BadPayload):
            enforce.enforce_frame(frame.copy(), schema)
    else:
        pd.testing.assert_frame_equal(enforce.enforce_frame(frame.copy(), schema), expected)


NESTED = [
    ({"type": "array", "items": {"type": "long"}}, [[1, 2], [3]]),
    ({"type": "array", "items": {"type": "long"}}, [[1.5], [2]]),
    ({"type": "array", "items": {"type": "string"}}, [["a"], []]),
    ({"type": "array", "items": {"type": "array", "items": {"type": "double"}}}, [[[1.0]], [[2.0, 3.0]]]),
    ({"type": "map", "values": {"type": "double"}}, [{"a": 1.0}, {}]),
    ({"type": "map", "values": {"type": "double"}}, [{"a": "x"}, {}]),
    ({"type": "object", "properties": {"a": {"type": "long", "required": True}}}, [{"a": 1}, {"a": 2}]),
    ({"type": "object", "properties": {"a": {"type": "long", "required": True}}}, [{"a": 1}, {}]),
    ({"type": "object", "properties": {"a": {"type": "long", "required": False}}}, [{"a": None}, {}]),
    ({"type": "object", "properties": {"a": {"type": "long", "required": True}}}, [{"a": 1, "b": 2}, {"a": 2}]),
    ({"type": "object", "properties": {"a": {"type": "long", "required": True}}}, ["text", {"a": 2}]),
    ({"type": "array", "items": {"type": "long"}}, [None, [1]]),
    ({"type": "any"}, [{"a": [1, "x"]}, None]),
]


@pytest.mark.parametrize("required", [True, False])
@pytest.mark.parametrize(("kind", "values"), NESTED)
def test_nested_as_mlflow(kind: dict[str, Any], values: list[Any], required: bool) -> None:
    text = json.dumps([{"name": "x", "required": required, **kind}])
    schema = Signature.parse({"inputs": text}).inputs
    assert schema is not None
    frame = pd.DataFrame({"x": values})
    try:
        expected = _enforce_schema(pd.DataFrame({"x": json.loads(json.dumps(values))}), MlflowSchema.from_json(text))
    except MlflowException:
        with pytest.raises(BadPayload):
            enforce.enforce_frame(frame, schema)
    else:
        assert enforce.enforce_frame(frame, schema)["x"].tolist() == expected["x"].tolist()


TENSORS = [
    ({"dtype": "float64", "shape": [-1, 2]}, np.zeros((3, 2))),
    ({"dtype": "float64", "shape": [-1, 2]}, np.zeros((3, 3))),
    ({"dtype": "float64", "shape": [-1, 2]}, np.zeros(2)),
    ({"dtype": "float32", "shape": [-1, 2]}, np.zeros((3, 2))),
    ({"dtype": "float32", "shape": [-1]}, pd.DataFrame({"a": [1.0, 2.0]})),
    ({"dtype": "float64", "shape": [-1, 2]}, pd.DataFrame({"a": [1.0], "b": [2.0]})),
    ({"dtype": "float64", "shape": [-1, 2, 2]}, pd.DataFrame({"a": [[1, 2, 3, 4], [5, 6, 7, 8]]})),
    ({"dtype": "float64", "shape": [-1, 2, 2]}, pd.DataFrame({"a": [[1, 2, 3], [5, 6, 7, 8]]})),
]


@pytest.mark.parametrize(("spec", "value"), TENSORS)
def test_tensors_as_mlflow(spec: dict[str, Any], value: Any) -> None:
    text = json.dumps([{"type": "tensor", "tensor-spec": spec}])
    schema = Signature.parse({"inputs": text}).inputs
    assert schema is not None

    def ours() -> Any:
        if isinstance(value, pd.DataFrame):
            return enforce.tensors_of_frame(value, schema)
        return enforce.enforce_tensor(value, schema.tensors[0])

    try:
        expected = _enforce_schema(value, MlflowSchema.from_json(text))
    except MlflowException:
        with pytest.raises(BadPayload):
            ours()
    else:
        np.testing.assert_array_equal(ours(), expected)


def test_missing_and_extra_columns(iris: InProcess) -> None:
    message = iris.refusal({"dataframe_records": [{"sepal_length": 1, "petal_width": 2, "colour": "red"}]})
    assert "'sepal_width', 'petal_length'" in message
    assert "'colour'" in message


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("number", "abc", "'number'"),
        ("count", 1.5, "fraction"),
        ("count", None, "'count'"),
        ("count", 2**70, "'count'"),
        ("when", "yesterday-ish", "'when'"),
        ("when", "2026-01-01T00:00:00Z", "time zone"),
        ("blob", 5, "base64"),
        ("tags", "x", "array"),
        ("tags", [1, 2], "'tags[]'"),
        ("place", {"lat": 1.0}, "'lon'"),
        ("place", {"lat": 1.0, "lon": 2.0, "up": 3}, "'up'"),
    ],
)
def test_wrong_values_are_named(mixed: InProcess, column: str, value: Any, says: str) -> None:
    message = mixed.refusal({"dataframe_records": [{**MIXED_ROW, column: value}]})
    assert says in message or (column == "tags" and "tags" in message), message


def test_optional_column_may_be_absent(mixed: InProcess) -> None:
    row = {name: value for name, value in MIXED_ROW.items() if name != "place"}
    assert len(mixed.predict({"dataframe_records": [row]})) == 1


def test_integers_are_never_cut(tmp_path: Path) -> None:
    code = "class CustomPreprocessor:\n    def predict(self, frame):\n        return frame['x'].to_numpy()\n"
    with InProcess(models.bundle_model(tmp_path / "m", code, models.columns(["x"], "long"))) as server:
        assert server.predict({"instances": [{"x": 5}, {"x": 2.0}]}) == [5, 2]
        assert "fraction" in server.refusal({"dataframe_split": {"columns": ["x"], "data": [[1.7]]}})
        assert "fraction" in server.refusal({"dataframe_split": {"columns": ["x"], "data": [[1], [1.7]]}})


def test_params(tmp_path: Path) -> None:
    code = """
        class CustomPreprocessor:
            def predict(self, frame, params=None):
                return frame["x"].to_numpy() * params["factor"] + len(params["words"])
    """
    params = [
        {"name": "factor", "type": "double", "default": 2.0, "shape": None},
        {"name": "words", "type": "string", "default": [], "shape": [-1]},
    ]
    directory = models.bundle_model(tmp_path / "m", code, models.columns(["x"]), rows_independent=True)
    models.write_manifest(directory, name="m", signature=models.signature(models.columns(["x"]), params))
    with InProcess(directory) as server:
        body = {"inputs": {"x": [1.0, 2.0]}}
        assert server.predict(body) == [2.0, 4.0]
        assert server.predict({**body, "params": {"factor": 3, "unknown": 1}}) == [3.0, 6.0]
        assert server.predict({**body, "params": {"words": ["a"]}}) == [3.0, 5.0]
        assert "'factor'" in server.refusal({**body, "params": {"factor": "x"}})
        assert "'words'" in server.refusal({**body, "params": {"words": "x"}})


def test_unnamed_columns(tmp_path: Path) -> None:
    code = "class CustomPreprocessor:\n    def predict(self, frame):\n        return frame.sum(axis=1).to_numpy()\n"
    inputs = [{"type": "double"}, {"type": "double"}]
    with InProcess(models.bundle_model(tmp_path / "m", code, inputs)) as server:
        assert server.predict({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2]]}}) == [3.0]
        assert "columns" in server.refusal({"dataframe_split": {"columns": ["a"], "data": [[1]]}})


def test_without_a_signature(tmp_path: Path) -> None:
    code = """
        class CustomPreprocessor:
            def predict(self, frame):
                return frame.sum(axis=1).to_numpy()
    """
    with InProcess(models.bundle_model(tmp_path / "m", code)) as server:
        assert server.predict({"dataframe_split": {"columns": ["a", "b"], "data": [[1, 2.5]]}}) == [3.5]
        assert server.predict({"dataframe_records": [{"a": 1}, {"a": 2}]}) == [1, 2]
        assert server.predict({"inputs": {"a": [1, 2], "b": [3, 4]}}) == [4, 6]
        assert server.predict({"instances": [[1, 2], [3, 4]]}) == [3, 7]
        assert server.predict(b"a,b\n1,2\n", **{"content-type": "text/csv"}) == [3]


def test_tensor_model(tmp_path: Path) -> None:
    with InProcess(models.tensor_model(tmp_path / "m")) as server:
        assert server.predict({"inputs": [[1, 2, 3]]}) == [6.0]
        assert server.predict({"instances": [[1, 2, 3], [4, 5, 6]]}) == [6.0, 15.0]
        assert server.predict({"dataframe_split": {"data": [[1.0, 2.0, 3.0]]}}) == [6.0]
        assert "shape" in server.refusal({"inputs": [[1, 2]]})


def test_rows_by_position(iris: InProcess) -> None:
    assert iris.predict({"dataframe_split": {"data": [IRIS_ROW]}}) == [0]
    assert "4 values" in iris.refusal({"instances": [IRIS_ROW[:3]]})
    assert "twice" in iris.refusal({"dataframe_split": {"columns": [*IRIS, "petal_width"], "data": [[*IRIS_ROW, 1]]}})


def test_texts_and_objects_are_no_rows(tmp_path: Path) -> None:
    code = "class CustomPreprocessor:\n    def predict(self, frame):\n        return frame['a'].to_numpy()\n"
    with InProcess(models.bundle_model(tmp_path / "m", code, models.columns(["a", "b"], "string"))) as server:
        assert server.predict({"dataframe_split": {"columns": ["a", "b"], "data": [["x", "y"]]}}) == ["x"]
        server.refusal({"dataframe_split": {"columns": ["a", "b"], "data": ["xy"]}})
        server.refusal({"dataframe_split": {"columns": ["a", "b"], "data": [["x", "y"], {"x": 1, "y": 2}]}})
