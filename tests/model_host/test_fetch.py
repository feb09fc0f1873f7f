"""A model's files from a real MLflow server's artifact proxy, from MLflow itself, and what may go wrong."""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import uvloop

from slipway_model_host.config import Config
from slipway_model_host.errors import DeploymentFailure
from slipway_model_host.fetch import Models
from slipway_model_host.process import Guard
from slipway_model_host.store import Store
from tests.model_host.hosts import HostProcess, ModelMaker, until


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the MLflow server keeps its artifacts."""
    return tmp_path_factory.mktemp("artifacts")


@pytest.fixture(scope="module")
def tracking_uri(store: Path) -> Iterator[str]:
    """A real MLflow server that only serves artifacts."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with (store.parent / "mlflow.out").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--artifacts-only", "--artifacts-destination", store,
             "--host", "127.0.0.1", "--port", str(port), "--workers", "1"],
            stdout=output, stderr=output, cwd=store.parent, start_new_session=True,
        )  # fmt: skip

    def up() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        except httpx.TransportError:
            return False

    until(up, 90)
    yield f"http://127.0.0.1:{port}"
    os.killpg(process.pid, 15)
    process.wait(20)


def fetch(home: Path, *uris: str, tracking_uri: str | None = None) -> list[Path | BaseException]:
    """Fetch all at once, and each three times, into `home`, as a host does."""

    async def work() -> list[Path | BaseException]:
        files = Store(home)
        files.open()
        guard = Guard()
        await guard.start()
        try:
            models = Models(Config(home=home, tracking_uri=tracking_uri), files, guard)
            found = [await asyncio.gather(*map(models.ensure, uris), return_exceptions=True) for _ in range(2)]
            assert [str(one) for one in found[0]] == [str(one) for one in found[1]]
            return found[0]
        finally:
            await guard.stop()
            files.close()

    return uvloop.run(work())


def digests(folder: Path) -> dict[str, str]:
    """The sha256 of each file below a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_from_an_mlflow_server(
    make_host: Callable[..., HostProcess], models: ModelMaker, store: Path, tracking_uri: str
) -> None:
    model = models.make("1")
    target = store / "1" / "models" / "m-1 ä%" / "artifacts"
    target.parent.mkdir(parents=True)
    (model.folder / "data" / "artifacts" / "big.bin").write_bytes(os.urandom(5_000_000))
    subprocess.run(["cp", "-r", model.folder, target], check=True)
    host = make_host(environ={"MLFLOW_TRACKING_URI": tracking_uri})
    for number, uri in enumerate(
        [
            "mlflow-artifacts:/1/models/m-1%20ä%25/artifacts",
            f"mlflow-artifacts://{tracking_uri[7:]}/1/models/m-1 ä%25/artifacts",
        ]
    ):
        host.deploy(f"e{number}", "v1", model, artifact_uri=uri)
        assert host.score(f"e{number}").json() == {"predictions": ["1"]}
    for folder in (host.home / "models").glob("*/model"):
        assert digests(folder) == digests(target)
    assert len(list((host.home / "models").iterdir())) == 2


def test_what_an_mlflow_server_does_not_have(tmp_path: Path, store: Path, tracking_uri: str) -> None:
    (store / "2" / "empty").mkdir(parents=True)
    (store / "2" / "empty" / "readme.txt").write_text("no model")
    for uri, words in {
        "mlflow-artifacts:/2/empty": "MLmodel",
        "mlflow-artifacts:/2/nothing": "MLmodel",
        "mlflow-artifacts:/../../etc": "cannot be fetched",
        "mlflow-artifacts://elsewhere:5000/2/empty": "another MLflow server",
    }.items():
        [failure] = fetch(tmp_path / "home", uri, tracking_uri=tracking_uri)
        assert isinstance(failure, DeploymentFailure)
        assert words in str(failure)
    assert not list((tmp_path / "home" / "models").iterdir()), "nothing half fetched is left"


def test_a_server_that_is_away(tmp_path: Path) -> None:
    [failure] = fetch(tmp_path / "home", "mlflow-artifacts:/1/x", tracking_uri="http://127.0.0.1:9")
    assert isinstance(failure, DeploymentFailure)
    assert "check that the MLflow server is up" in str(failure)


def test_by_mlflow_itself(tmp_path: Path, models: ModelMaker, store: Path, tracking_uri: str) -> None:
    folder = models.make("2").folder
    target = store / "3"
    subprocess.run(["cp", "-r", folder, target], check=True)
    uri = f"{tracking_uri}/api/2.0/mlflow-artifacts/artifacts/3"
    good, bad = fetch(tmp_path / "home", uri, "unheardof://bucket/key")
    assert isinstance(good, Path)
    assert digests(good) == digests(folder)
    assert isinstance(bad, DeploymentFailure)
    assert "MLflow cannot download" in str(bad)


def test_from_a_folder(tmp_path: Path, models: ModelMaker) -> None:
    folder = models.make("3").folder
    for found in fetch(tmp_path / "home", folder.as_uri(), str(folder)):
        assert isinstance(found, Path)
        assert digests(found) == digests(folder)
