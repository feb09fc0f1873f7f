from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from slipway.domain import GoldenSample, ModelManifest, Signature
from slipway.samples.render import MAX_ROWS, example_payload, render

Echo = tuple[str, list[tuple[str, object, dict[str, str]]]]
HOSTILE = 'it\'s "quoted" $(touch /tmp/never) `id` \\ \n{{ x }} é'


@pytest.fixture
def echo() -> Iterator[Echo]:
    """A server that keeps what it is sent."""
    seen: list[tuple[str, object, dict[str, str]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            seen.append((self.path, json.loads(body), dict(self.headers)))
            self._answer({"predictions": [1]})

        def do_GET(self) -> None:
            self._answer({"token": "s3cr-t_token"})

        def _answer(self, value: object) -> None:
            body = json.dumps(value).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", seen
    server.shutdown()
    thread.join()
    server.server_close()


def manifest(rows: int = 2, independent: bool = True) -> ModelManifest:
    split = {"columns": ["a", HOSTILE], "index": list(range(rows)), "data": [[1.5, HOSTILE]] * rows}
    golden = GoldenSample(input={"dataframe_split": split}, output=[1] * rows)
    return ModelManifest(rows_independent=independent, golden=golden)


@pytest.mark.parametrize("token", [False, True])
@pytest.mark.parametrize("tool", ["bash", "sh", "python"])
def test_the_sample_works_when_pasted_whatever_is_in_the_data(tool: str, token: bool, echo: Echo) -> None:
    url, seen = echo
    samples = render(manifest(), url=f"{url}/endpoints/e", token_url=f"{url}/v1/token" if token else None)
    assert samples is not None
    command = [sys.executable, "-c", samples.python] if tool == "python" else [tool, "-c", samples.curl]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "/usr/bin:/bin", "MODEL_HOST_ADMIN_TOKEN": "x"},
    )
    assert "[1]" in run.stdout
    path, body, headers = seen[-1]
    assert path == "/endpoints/e/invocations"
    assert body == manifest().golden.input  # type: ignore[union-attr]
    assert headers.get("Authorization") == ("Bearer s3cr-t_token" if token else None)


@pytest.mark.requires("curl")
@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize(
    ("target", "values", "sent"),
    [
        ("mlflow", {}, {"Authorization": "Bearer s3cr-t_token"}),
        ("azureml", {"auth": "aad_token", "resource": "https://ml"}, {"Authorization": "Bearer s3cr-t_token"}),
        (
            "sagemaker",
            {"region": "eu-west-1", "endpoint": "e", "endpoint_url": None},
            {"X-Amz-Security-Token": "s3cr-t_token/+=="},
        ),
    ],
)
def test_no_secret_is_an_argument_of_curl_s(
    shell: str, target: str, values: dict[str, Any], sent: dict[str, str], echo: Echo, tmp_path: Path
) -> None:
    url, seen = echo
    arguments = tmp_path / "arguments"
    tools = {
        # Writes down what a process list would show, and runs the real one.
        "curl": f'printf \'%s\\n\' "$@" >>{shlex.quote(str(arguments))}\nexec {shutil.which("curl")} "$@"\n',
        # Azure's, for somebody who is signed in.
        "az": "echo s3cr-t_token\n",
    }
    for name, script in tools.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}")
        (tmp_path / name).chmod(0o755)
    samples = render(manifest(), url=url, token_url=f"{url}/v1/token", target=target, values=values)
    assert samples is not None
    environment = {
        "PATH": f"{tmp_path}:/usr/bin:/bin",
        "MODEL_HOST_ADMIN_TOKEN": "s3cr-t_admin",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "s3cr-t/+key",
        "AWS_SESSION_TOKEN": "s3cr-t_token/+==",
    }
    subprocess.run([shell, "-c", samples.curl], capture_output=True, check=True, env=environment)
    _, body, headers = seen[-1]
    assert body == manifest().golden.input  # type: ignore[union-attr]
    assert sent.items() <= headers.items()
    assert url in arguments.read_text()
    assert "s3cr" not in arguments.read_text()


def test_a_long_sample_is_cut_only_where_rows_are_independent() -> None:
    assert len(example_payload(manifest(rows=9))["dataframe_split"]["data"]) == MAX_ROWS
    assert len(example_payload(manifest(rows=9, independent=False))["dataframe_split"]["data"]) == 9


def test_without_a_golden_sample_the_example_follows_the_signature() -> None:
    inputs = json.dumps([{"name": "age", "type": "long"}, {"name": "city", "type": "string"}])
    payload = example_payload(ModelManifest(signature=Signature(inputs=inputs)))
    assert payload == {"dataframe_split": {"columns": ["age", "city"], "data": [[1, "text"]]}}
