"""A real MLflow server with many models, and a bundle store beside it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.page.seed import seed
from slipway.bundles.store import BundleStore
from slipway.web.page.models import PageMlflow
from slipway_stack import mlflow_server
from slipway_stack.ports import pick_free

MODELS = 300


@pytest.fixture(scope="session")
def mlflow_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server with models `model-0000` to `model-0299`, ten versions each."""
    home: Path = tmp_path_factory.mktemp("mlflow")
    [port] = pick_free(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(mlflow_server.__file__), "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("w") as log:
        server = subprocess.Popen([*command, "--home", str(home)], stdout=log, stderr=log, start_new_session=True)
    try:
        while True:
            assert server.poll() is None, (home / "log").read_text()
            try:
                if httpx.get(f"{url}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.1)
        seed(home / "mlflow.db", MODELS)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


class CountingMlflow(PageMlflow):
    """Counts the calls that it makes."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def call(self, method: str, path: str, **options: Any) -> Any:
        self.calls += 1
        return super().call(method, path, **options)


@pytest.fixture
def mlflow(mlflow_url: str, monkeypatch: pytest.MonkeyPatch) -> CountingMlflow:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "http", "host": mlflow_url}))
    return CountingMlflow()


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    """A store in which bundles were imported under names before, between and after MLflow's."""
    made = BundleStore((tmp_path / "bundles").as_uri())
    for number, name in enumerate(("aardvark", "model-0000", "model-0010b", "zebra")):
        made.record(name, f"{number:064x}", "file:///x.zip", f"A bundle called {name}")
    return made
