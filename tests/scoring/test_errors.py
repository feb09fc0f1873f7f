"""Every refusal has the right status and MLflow's shape, and says nothing about the inside of the server."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

from tests.scoring import models
from tests.scoring.inprocess import InProcess
from tests.scoring.models import IRIS, IRIS_ROW

ONE = {"instances": [IRIS_ROW]}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'"text"',
        b"1e999",
        b"{}",
        b'{"dataframe_split": 5}',
        b'{"dataframe_split": {"columns": "abc", "data": [[1]]}}',
        b'{"dataframe_split": {"data": [[1], [1, 2]]}}',
        b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2, 3, 4]]}}',
        b'{"dataframe_split": {"columns": [["a"], {}], "data": [[1, 2]]}}',
        b'{"dataframe_records": {"a": 1}}',
        b'{"dataframe_records": [1, 2]}',
        b'{"dataframe_records": [{}, null]}',
        b'{"instances": null}',
        b'{"instances": 5}',
        b'{"inputs": "x"}',
        b'{"inputs": {"sepal_length": [1, 2], "sepal_width": [1]}}',
        b'{"inputs": [1], "instances": [1]}',
        b'{"dataframe_split": {"data": []}, "params": 5}',
        b'{"instances": ' + b"[" * 500 + b"]" * 500 + b"}",
        b'{"instances": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"instances": ' + b'{"a":' * 5000 + b"NaN" + b"}" * 5000 + b"}",
        b'{"inputs": {"\\ud800": 1}}',
        b'{"instances": [[1, 2, 3, "x"]]}',
        b'{"instances": [[null, null, null, null]]}',
        b'{"instances": []}',
    ],
)
def test_bad_json(iris: InProcess, body: bytes) -> None:
    iris.refusal(body)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("text/csv", b""),
        ("text/csv", b"\xff\xff"),
        ("text/csv", b"a,b\n1,2"),
        ("text/csv", ",".join(IRIS).encode()),
        ("text/csv", ",".join(IRIS).encode() + b"\n1,2,3,x\n"),
        ("text/csv", ",".join(IRIS).encode() + b"\n1,2,3,4,5,6\n"),
        ("text/csv", b'"' + b"a" * 200_000),
        ("application/jsonlines", b"{\n"),
        ("application/jsonlines", b""),
        ("application/jsonlines", b'[1,2,3,4]\n{"a":1}\n'),
        ("application/vnd.apache.parquet", b"PAR1 no"),
        ("application/vnd.apache.arrow.stream", b"nothing"),
        ("application/vnd.apache.arrow.stream", b"\xff\xff\xff\xff\x10\x00\x00\x00" + b"\x00" * 16),
    ],
)
def test_other_bad_bodies(iris: InProcess, content_type: str, body: bytes) -> None:
    iris.refusal(body, **{"content-type": content_type})


def test_statuses(iris: InProcess) -> None:
    def status(method: str, path: str, **headers: str) -> tuple[int, str]:
        answer = iris.ask(method, path, b"{}", headers)
        return answer.status, answer.json()["error_code"]

    assert status("GET", "/nothing") == (404, "ENDPOINT_NOT_FOUND")
    assert status("GET", "/v2/models/other") == (404, "ENDPOINT_NOT_FOUND")
    assert status("GET", "/invocations") == (405, "BAD_REQUEST")
    assert status("DELETE", "/ping") == (405, "BAD_REQUEST")
    assert status("POST", "/invocations", **{"content-type": "image/png"}) == (415, "BAD_REQUEST")
    assert status("POST", "/invocations", **{"content-type": "application/json; charset=latin-1"}) == (
        415,
        "BAD_REQUEST",
    )
    assert status("POST", "/invocations", **{"content-encoding": "br"}) == (415, "BAD_REQUEST")
    assert iris.ask("PUT", "/invocations").headers["allow"] == "POST"
    assert iris.ask("HEAD", "/ping").status == 200


def test_limits(iris_directory: Path) -> None:
    with InProcess(iris_directory, max_body_bytes=4000, max_rows=3) as server:
        assert server.ask("POST", "/invocations", ONE).status == 200
        assert server.ask("POST", "/invocations", {"instances": [IRIS_ROW] * 4}).status == 413
        large = b" " * 5000
        assert server.ask("POST", "/invocations", large).status == 413
        assert server.ask("POST", "/invocations", large, chunked=True).status == 413
        assert server.ask("POST", "/invocations", gzip.compress(large), {"content-encoding": "gzip"}).status == 413


def test_a_bomb_is_not_unpacked(iris_directory: Path) -> None:
    with InProcess(iris_directory, max_body_bytes=100_000) as server:
        bomb = gzip.compress(b"0" * 50_000_000)
        assert len(bomb) < 100_000
        assert server.ask("POST", "/invocations", bomb, {"content-encoding": "gzip"}).status == 413


def test_chunked_bodies_are_read(iris: InProcess) -> None:
    import json

    answer = iris.run(iris.send("POST", "/invocations", json.dumps(ONE).encode(), chunked=True))
    assert answer.json() == {"predictions": [0]}


def _deed(seconds: float, deed: str = "") -> dict[str, Any]:
    return {"dataframe_records": [{"seconds": seconds, "deed": deed}]}


def test_the_models_errors_are_the_payloads(faulty_directory: Path) -> None:
    with InProcess(faulty_directory) as server:
        message = server.refusal(_deed(0, "raise"))
        assert "RuntimeError" in message
        assert "SystemExit" in server.refusal(_deed(0, "exit"))
        assert "StopIteration" in server.refusal(_deed(0, "stop"))
        assert server.ask("GET", "/ping").status == 200


def test_a_broken_model_is_not_ready_until_it_works(tmp_path: Path) -> None:
    code = """
        from pathlib import Path

        class CustomPreprocessor:
            def load(self, artifacts):
                self.flag = artifacts / "broken"

            def predict(self, frame):
                if self.flag.exists():
                    raise RuntimeError("no GPU")
                return frame["x"].to_numpy()
    """
    golden = {"input": {"inputs": {"x": [1.0]}}, "output": [1.0]}
    directory = models.bundle_model(tmp_path / "m", code, models.columns(["x"]), golden=golden)
    flag = directory / "data" / "artifacts" / "broken"
    with InProcess(directory) as server:
        assert server.predict({"inputs": {"x": [1.0]}}) == [1.0]
        flag.touch()
        answer = server.ask("POST", "/invocations", {"inputs": {"x": [1.0]}})
        assert (answer.status, answer.json()["error_code"]) == (500, "INTERNAL_ERROR")
        assert server.ask("GET", "/ping").status == 503
        assert "retry-after" in server.ask("GET", "/v2/health/ready").headers
        flag.unlink()
        assert server.predict({"inputs": {"x": [2.0]}}) == [2.0]
        assert server.ask("GET", "/ping").status == 200


def test_unwritable_output(tmp_path: Path) -> None:
    code = "class CustomPreprocessor:\n    def predict(self, frame):\n        return object()\n"
    with InProcess(models.bundle_model(tmp_path / "m", code, models.columns(["x"]))) as server:
        answer = server.ask("POST", "/invocations", {"inputs": {"x": [1.0]}})
        assert (answer.status, answer.json()["error_code"]) == (500, "INTERNAL_ERROR")


def test_queue_and_time_limits(faulty_directory: Path) -> None:
    import json

    with InProcess(faulty_directory, max_queue=2, time_limit=0.3) as server:

        async def crowd() -> list[int]:
            headers = {"content-type": "application/json"}

            async def one(number: int) -> int:
                await asyncio.sleep(number * 0.02)
                body = json.dumps(_deed(0.8 if number == 0 else 0)).encode()
                answer = await server.send("POST", "/invocations", body, headers)
                if answer.status == 429:
                    assert answer.headers["retry-after"] == "1"
                return answer.status

            return list(await asyncio.gather(*map(one, range(6))))

        server.predict(_deed(0.2))  # The server learns that this model is slow.
        statuses = server.run(crowd())
        assert statuses[0] == 504
        assert statuses.count(429) == 3
        assert statuses.count(504) == 3
        server.run(asyncio.sleep(0.6))
        assert server.predict(_deed(0)) == [0.0]
