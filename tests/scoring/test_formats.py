"""Every input format gives the same predictions; every output format holds them."""

from __future__ import annotations

import csv
import gzip
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from slipway_scoring.codecs.negotiation import ARROW, PARQUET
from tests.scoring.inprocess import InProcess
from tests.scoring.models import IRIS, IRIS_ROW, MIXED_ROW

ROWS = [IRIS_ROW, [6.3, 3.3, 6.0, 2.5], [5.9, 3.0, 4.2, 1.5]]
EXPECTED = [0, 2, 1]
FRAME = pd.DataFrame(ROWS, columns=IRIS)
RECORDS = FRAME.to_dict(orient="records")
BACKWARDS = FRAME[IRIS[::-1]]


@pytest.mark.parametrize(
    "body",
    [
        {"dataframe_split": {"columns": IRIS, "data": ROWS}},
        {"dataframe_split": {"columns": IRIS, "data": ROWS, "index": [0, 1, 2]}},
        {"dataframe_split": {"columns": IRIS, "data": ROWS, "index": ["a", "b", "c"]}},
        {"dataframe_split": json.loads(BACKWARDS.to_json(orient="split"))},
        {"dataframe_split": {"columns": ["more", *IRIS], "data": [["x", *row] for row in ROWS]}},
        {"dataframe_records": RECORDS},
        {"dataframe_records": [{**record, "more": [1]} for record in RECORDS]},
        {"instances": RECORDS},
        {"instances": ROWS},
        {"inputs": RECORDS},
        {"inputs": FRAME.to_dict(orient="list")},
        {"inputs": ROWS},
        {"dataframe_split": {"columns": IRIS, "data": [[str(value) for value in row] for row in ROWS]}},
    ],
)
def test_json_shapes(iris: InProcess, body: Any) -> None:
    assert iris.predict(body) == EXPECTED


def _arrow(frame: pd.DataFrame) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pandas(frame, preserve_index=False)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", FRAME.to_csv(index=False).encode()),
        ("text/csv; charset=utf-8", BACKWARDS.to_csv(index=False).encode()),
        ("text/csv; header=present", FRAME.to_csv(index=False, lineterminator="\r\n").encode()),
        ("text/csv", FRAME.to_csv(index=False, header=False).encode()),
        ("text/csv; header=absent", FRAME.to_csv(index=False, header=False).encode()),
        ("text/csv", FRAME.to_csv(index=False, quoting=csv.QUOTE_ALL).encode()),
        ("application/jsonlines", FRAME.to_json(orient="records", lines=True).encode()),
        ("application/x-ndjson", "\n".join(json.dumps(row) for row in ROWS).encode()),
        ("application/jsonlines", "\n".join(json.dumps({"features": row}) for row in ROWS).encode()),
        (PARQUET, FRAME.to_parquet()),
        (ARROW, _arrow(FRAME)),
        (ARROW, _arrow(BACKWARDS.assign(more="x"))),
    ],
)
def test_other_formats(iris: InProcess, content_type: str, body: bytes) -> None:
    answer = iris.ask("POST", "/invocations", body, {"content-type": content_type})
    assert (answer.status, answer.json()["predictions"]) == (200, EXPECTED)


def test_arrow_floats_are_widened_but_longs_are_not(iris: InProcess) -> None:
    singles = _arrow(FRAME.astype("float32"))
    assert iris.ask("POST", "/invocations", singles, {"content-type": ARROW}).status == 200
    longs = _arrow(FRAME.astype("int64"))
    assert "without loss" in iris.refusal(longs, **{"content-type": ARROW})


@pytest.mark.parametrize(
    ("accept", "content_type", "expected"),
    [
        ("text/csv", "text/csv; charset=utf-8", b"0\n2\n1\n"),
        ("text/csv; header=present", "text/csv; charset=utf-8", b"predictions\n0\n2\n1\n"),
        ("application/jsonlines", "application/jsonlines", b"0\n2\n1\n"),
        ("application/x-ndjson;q=0.9, text/html", "application/x-ndjson", b"0\n2\n1\n"),
        ("text/html, */*;q=0.1", "application/json", b'{"predictions":[0,2,1]}'),
        ("application/*", "application/json", b'{"predictions":[0,2,1]}'),
    ],
)
def test_accept(iris: InProcess, accept: str, content_type: str, expected: bytes) -> None:
    answer = iris.ask("POST", "/invocations", {"instances": ROWS}, {"accept": accept})
    assert (answer.status, answer.headers["content-type"], answer.body) == (200, content_type, expected)


def test_accept_arrow(iris: InProcess, mixed: InProcess) -> None:
    answer = iris.ask("POST", "/invocations", {"instances": ROWS}, {"accept": ARROW})
    assert pa.ipc.open_stream(answer.body).read_all().to_pydict() == {"predictions": EXPECTED}
    answer = mixed.ask("POST", "/invocations", {"dataframe_records": [MIXED_ROW]}, {"accept": ARROW})
    table = pa.ipc.open_stream(answer.body).read_all()
    assert table.to_pydict() == {"total": [4.5], "words": [4], "bytes": [5], "tags": [2], "year": [2026]}


def test_not_acceptable(iris: InProcess) -> None:
    assert iris.ask("POST", "/invocations", {"instances": ROWS}, {"accept": "image/png"}).status == 406


def test_frame_outputs(mixed: InProcess) -> None:
    body = {"dataframe_records": [MIXED_ROW, MIXED_ROW]}
    expected = {"total": 4.5, "words": 4, "bytes": 5, "tags": 2, "year": 2026}
    assert mixed.predict(body) == [expected, expected]
    answer = mixed.ask("POST", "/invocations", body, {"accept": "text/csv; header=present"})
    assert answer.body == b"total,words,bytes,tags,year\n4.5,4,5,2,2026\n4.5,4,5,2,2026\n"
    answer = mixed.ask("POST", "/invocations", body, {"accept": "application/jsonlines"})
    assert [json.loads(line) for line in answer.body.splitlines()] == [expected, expected]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_compressed_bodies(iris: InProcess, encoding: str) -> None:
    import zlib

    body = json.dumps({"instances": ROWS}).encode()
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    answer = iris.ask("POST", "/invocations", packed, {"content-encoding": encoding})
    assert answer.json()["predictions"] == EXPECTED


def test_nan_and_infinity(tmp_path_factory: pytest.TempPathFactory) -> None:
    from tests.scoring import models

    code = """
        class CustomPreprocessor:
            def predict(self, frame):
                return frame["x"].to_numpy()
    """
    directory = models.bundle_model(tmp_path_factory.mktemp("nan") / "model", code, models.columns(["x"]))
    with InProcess(directory) as server:
        expected = [None, "Infinity", "-Infinity", 1.0]
        assert server.predict({"inputs": {"x": [None, "Infinity", "-Infinity", 1]}}) == expected
        assert server.predict(b'{"inputs": {"x": [NaN, Infinity, -Infinity, 1]}}') == expected
        assert (
            server.predict(b"x\n\ninf\n-inf\n1\n".replace(b"\n\n", b"\nnan\n"), **{"content-type": "text/csv"})
            == expected
        )


def test_float32_outputs_keep_their_exact_value() -> None:
    from slipway_scoring.codecs import json_out

    assert json.loads(json_out.dumps(np.array([0.1], dtype=np.float32))) == [float(np.float32(0.1))]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (np.asfortranarray([[1.0, 2.0]]), [[1.0, 2.0]]),
        (np.array(["a", None], dtype=object), ["a", None]),
        (np.array(["2026-01-02"], dtype="datetime64[ns]"), ["2026-01-02T00:00:00"]),
        (pd.Series([1, 2]), [{"0": 1}, {"0": 2}]),
        (pd.Series([1.5], name="y"), [{"y": 1.5}]),
        (pd.DataFrame({"a": [1], "b": [pd.NaT]}), [{"a": 1, "b": None}]),
        ([np.int64(1), {"x": np.float64("inf")}, b"hi"], [1, {"x": "Infinity"}, "aGk="]),
        ({"a": np.array([1])}, {"a": [1]}),
        (True, True),
    ],
)
def test_json_of_outputs(value: Any, expected: Any) -> None:
    from slipway_scoring.codecs import json_out

    assert json.loads(json_out.dumps(value)) == expected
