"""The download of a version's files from a real MLflow server."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from slipway.domain import ModelVersion
from slipway.errors import Unavailable, UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.model_download import download_model

ROUTE = "/api/2.0/mlflow-artifacts/artifacts"
FILES = {
    "MLmodel": b"flavors: {}\n",
    "slipway/manifest.json": b"{}",
    "data/bundle/artifacts/ein schönes Modell.bin": os.urandom(3 << 20),
    "data/bundle/artifacts/empty": b"",
}


def version_of(hook: MlflowHook, files: dict[str, bytes]) -> ModelVersion:
    """Register a version with these files, as MLflow's own client uploads them."""
    name = f"d-{uuid.uuid4().hex[:8]}"
    hook.call("POST", "/api/2.0/mlflow/registered-models/create", json={"name": name})
    logged = hook.call("POST", "/api/2.0/mlflow/logged-models", json={"experiment_id": "0", "name": name})
    info = logged["model"]["info"]
    root = httpx.URL(info["artifact_uri"]).path.strip("/")
    with hook.get_conn() as client:
        for path, data in files.items():
            assert client.put(f"{ROUTE}/{root}/{quote(path)}", content=data).is_success
    body = {"name": name, "source": info["artifact_uri"], "model_id": info["model_id"]}
    hook.call("POST", "/api/2.0/mlflow/model-versions/create", json=body)
    return hook.get_version(name, "1")


def test_every_file_arrives_as_it_was_and_again_over_an_earlier_try(mlflow_hook: MlflowHook, tmp_path: Path) -> None:
    version = version_of(mlflow_hook, FILES)
    for _ in range(2):
        model = download_model(version, tmp_path)
        found = {str(path.relative_to(model)): path.read_bytes() for path in model.rglob("*") if path.is_file()}
        assert found == FILES
        (model / "slipway" / "manifest.json").write_bytes(b"half of an earlier t")


def test_files_that_are_no_model_are_refused(mlflow_hook: MlflowHook, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no file 'MLmodel' at mlflow-artifacts:/.* register the model again"):
        download_model(version_of(mlflow_hook, {"notes.txt": b"none here"}), tmp_path)


def test_a_server_that_is_away_passes(mlflow_hook: MlflowHook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    version = version_of(mlflow_hook, {"MLmodel": b"flavors: {}\n"})
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "http", "host": "http://127.0.0.1:9"}')
    with pytest.raises(Unavailable, match="does not answer"):
        download_model(version, tmp_path)
