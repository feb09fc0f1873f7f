"""A workspace in the Azure sandbox, and an MLflow with three versions of a model: `one`, `two`, and a `broken` one."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from slipway.hooks.mlflow import RUN_TAG, MlflowHook
from slipway.registry import LOCK_TAG
from tests.model_host.hosts import ModelMaker
from tests.plugins.conftest import mlflow_url
from tests.sandbox_azure.sandboxes import environments, models, running_azure, sandbox

__all__ = ["environments", "mlflow_url", "models", "running_azure", "sandbox"]

ROWS = {"dataframe_split": {"columns": ["a"], "data": [[1.0], [2.0]]}}


@pytest.fixture(scope="session")
def registered(mlflow_url: str, models: ModelMaker, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The model `echo`: version 1 answers `one`, 2 `two`, 3 does not load, 4 predicts otherwise than at import."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "http", "host": mlflow_url}))
        for answer, expected in (("one", "one"), ("two", "two"), ("broken", "broken"), ("four", "five")):
            folder: Path = tmp_path_factory.mktemp("versions") / answer
            shutil.copytree(models.make(answer).folder, folder)
            manifest = folder / "slipway" / "manifest.json"
            known = json.loads(manifest.read_text())
            golden = {"input": ROWS, "output": [expected] * len(ROWS["dataframe_split"]["data"])}
            manifest.write_text(json.dumps({**known, "golden": golden}))
            MlflowHook().log_version("echo", folder, {LOCK_TAG: models.digest, RUN_TAG: answer})
    return "echo"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look often: what Azure takes minutes for, the sandbox does in a moment."""
    monkeypatch.setenv("AIRFLOW__SLIPWAY__POLL_SECONDS", "0.1")


@pytest.fixture(autouse=True)
def mlflow(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Connect to MLflow where a test has one."""
    if "registered" in request.fixturenames:
        host = request.getfixturevalue("mlflow_url")
        monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "http", "host": host}))
