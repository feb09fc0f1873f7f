"""What those who run the server rely on: health, metrics, logs, documents, the token, TLS."""

from __future__ import annotations

import re
import ssl
import subprocess
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.specs.openapi import checks as openapi

from tests.scoring.inprocess import InProcess
from tests.scoring.models import IRIS, IRIS_ROW, MIXED_ROW
from tests.scoring.servers import Server

ONE = {"instances": [IRIS_ROW]}


def test_metrics(iris_directory: Path) -> None:
    with Server(iris_directory, SLIPWAY_MODEL_NAME='ir"is', SLIPWAY_MODEL_VERSION="7") as server:
        for _ in range(3):
            server.post("/invocations", ONE)
        server.post("/invocations", {})
        server.get("/nothing")
        text = server.get("/metrics").text
    assert 'slipway_model_info{model="ir\\"is",version="7",flavor="sklearn"} 1' in text
    assert 'slipway_requests_total{route="/invocations",status="200"} 3' in text
    assert 'slipway_errors_total{route="/invocations",status="400"} 1' in text
    assert 'slipway_errors_total{route="other",status="404"} 1' in text
    assert 'slipway_request_seconds_count{route="/invocations"} 4' in text
    assert "slipway_batch_requests_count 3" in text
    assert "slipway_batch_rows_sum 3" in text
    assert "slipway_prediction_seconds_count 3" in text
    assert re.search(r"^slipway_queue_depth \d+$", text, re.MULTILINE)
    for line in text.splitlines():
        assert line.startswith("#") or re.fullmatch(r'[a-z_]+(\{([a-z_]+="([^"\\]|\\.)*",?)*\})? [\d.e+-]+', line), line


def test_log_lines(iris_directory: Path) -> None:
    with Server(iris_directory, SLIPWAY_MODEL_NAME="iris", SLIPWAY_MODEL_VERSION="7") as server:
        answer = server.post("/invocations", ONE, headers={"x-request-id": "abc-1"})
        assert answer.headers["x-request-id"] == "abc-1"
        made = server.post("/invocations", {}).headers["x-request-id"]
        hostile = server.post("/invocations", ONE, headers={"x-request-id": "x" * 500}).headers["x-request-id"]
        assert hostile != "x" * 500
        server.stop()
        lines = {line["request_id"]: line for line in server.log_lines() if "request_id" in line}
    good = lines["abc-1"]
    assert (good["status"], good["rows"], good["method"], good["path"]) == (200, 1, "POST", "/invocations")
    assert (good["model"], good["version"], good["worker"]) == ("iris", "7", 0)
    assert good["ms"] > 0
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", good["time"])
    assert lines[made]["status"] == 400
    assert "instances" in lines[made]["error"]


def test_quiet_logs_keep_the_failures(iris_directory: Path) -> None:
    with Server(iris_directory, "--access-log", "off") as server:
        server.post("/invocations", ONE)
        server.post("/invocations", {})
        server.stop()
        assert [line["status"] for line in server.log_lines() if "status" in line] == [400]


def test_token(iris_directory: Path) -> None:
    with Server(iris_directory, SLIPWAY_SCORING_TOKEN="s3cret") as server:
        good, bad = {"authorization": "Bearer s3cret"}, {"authorization": "Bearer wrong"}
        assert server.post("/invocations", ONE, headers=good).status_code == 200
        for headers in ({}, bad, {"authorization": "s3cret"}, {"authorization": "Bearer schön".encode()}):
            answer = server.post("/invocations", ONE, headers=headers)
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert answer.json()["error_code"] == "UNAUTHENTICATED"
        for path in ("/", "/ping", "/health", "/ready", "/v2/health/live", "/v2/health/ready", "/version", "/docs"):
            assert server.get(path).status_code == 200
        for path in ("/metrics", "/openapi.json", "/v2/models/iris"):
            assert server.get(path).status_code == 401
            assert server.get(path, headers=good).status_code == 200
        server.stop()
        assert "s3cret" not in server.log()


@pytest.mark.requires("openssl")
def test_tls(iris_directory: Path, tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)],
        check=True, capture_output=True,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Server(iris_directory, "--tls-cert", str(cert), "--tls-key", str(key), tls=True) as server:
            answer = requests.post(server.url + "/invocations", json=ONE, verify=str(cert), timeout=10)
            assert answer.json() == {"predictions": [0]}
            context = ssl.create_default_context(cafile=str(cert))
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            assert server.stop() == 0


def test_openapi_is_made_from_the_signature(iris: InProcess, mixed: InProcess) -> None:
    document = iris.ask("GET", "/openapi.json").json()
    assert document["info"] == {"title": "iris", "version": "1", "description": "Scores the model iris, version 1."}
    row = document["components"]["schemas"]["Row"]
    assert list(row["properties"]) == row["required"] == IRIS
    operation = document["paths"]["/invocations"]["post"]
    example = operation["requestBody"]["content"]["application/json"]["example"]
    expected = operation["responses"]["200"]["content"]["application/json"]["example"]
    assert iris.ask("POST", "/invocations", example).json() == expected
    split = document["paths"]["/predict"]["post"]["requestBody"]["content"]["application/json"]["example"]
    assert iris.ask("POST", "/predict", split).json() == expected
    tensors = document["paths"]["/v2/models/iris/infer"]["post"]["requestBody"]["content"]["application/json"][
        "example"
    ]
    answer = iris.ask("POST", "/v2/models/iris/infer", tensors)
    assert answer.json()["outputs"][0]["data"] == expected["predictions"]
    properties = mixed.ask("GET", "/openapi.json").json()["components"]["schemas"]["Row"]["properties"]
    assert set(properties) == set(MIXED_ROW)
    assert properties["when"] == {"type": "string", "format": "date-time"}
    assert properties["tags"]["items"]["type"] == ["string", "null"]


def test_the_docs_page_needs_nothing_from_elsewhere(iris: InProcess) -> None:
    page = iris.ask("GET", "/docs").body.decode()
    assert "Try it out" in page
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", page)
    assert "://" not in page


@pytest.mark.parametrize("fixture", ["iris_server", "mixed_server"])
def test_schemathesis(fixture: str, request: pytest.FixtureRequest) -> None:
    server: Server = request.getfixturevalue(fixture)
    schema = schemathesis.openapi.from_url(server.url + "/openapi.json")
    checks = [
        schemathesis.checks.not_a_server_error,
        openapi.status_code_conformance,
        openapi.content_type_conformance,
        openapi.response_schema_conformance,
    ]
    quick = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
    for result in schema.get_all_operations():
        operation = result.ok()

        @quick
        @given(case=operation.as_strategy())
        def check(case: Any) -> None:
            case.call_and_validate(checks=checks, timeout=10)

        check()


def test_a_short_soak_is_flat(iris_directory: Path) -> None:
    """The long one is `python -m benchmarks.serving.soak --minutes 10`."""
    from benchmarks.serving.soak import soak

    started = time.monotonic()
    report = soak(iris_directory, minutes=0.25)
    assert time.monotonic() - started < 60
    assert report.failures == 0
    assert report.growth_mb < 15, report
