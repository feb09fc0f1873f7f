"""The models that a workflow names, looked up in a real MLflow."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from slipway.errors import Unavailable
from slipway.hooks.mlflow import MlflowHook
from slipway.workflows import catalog
from slipway.workflows.__main__ import main
from slipway.workflows.models import unknown_models

DEFINITION = """
id: 7
name: two-models
description: Models after one another.
parameters: [{name: which, type: string, default: other}]
nodes:
  - {id: rows, type: read, format: parquet, path: rows.parquet}
  - {id: first, type: score, input: rows, model: MODEL, version: "1"}
  - {id: second, type: score, input: first, model: MODEL, alias: best, outputs: [again]}
  - {id: third, type: score, input: second, model: "${which}", outputs: [more]}
  - {id: fourth, type: score, input: third, model: nobody-made-this, outputs: [last]}
  - {id: out, type: write, input: fourth, path: out}
"""


@pytest.fixture
def model(mlflow_hook: MlflowHook) -> str:
    name = f"w-{uuid.uuid4().hex[:8]}"
    mlflow_hook.call("POST", "/api/2.0/mlflow/registered-models/create", json={"name": name})
    logged = mlflow_hook.call("POST", "/api/2.0/mlflow/logged-models", json={"experiment_id": "0", "name": name})
    info = logged["model"]["info"]
    version = {"name": name, "source": info["artifact_uri"], "model_id": info["model_id"]}
    mlflow_hook.call("POST", "/api/2.0/mlflow/model-versions/create", json=version)
    return name


def test_models_aliases_and_versions_that_are_not_there_are_told(mlflow_hook: MlflowHook, model: str) -> None:
    definition = catalog.parse(DEFINITION.replace("MODEL", model).encode(), "seven.yaml")
    problems = unknown_models(definition, mlflow_hook)
    assert [problem.field for problem in problems] == ["nodes.2.model", "nodes.4.model"]
    assert f"Model '{model}' has no alias 'best'" in problems[0].message
    assert "'nobody-made-this' is not registered" in problems[1].message


def test_the_checking_command_tells_them_too(
    mlflow_hook: MlflowHook, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "seven.yaml"
    file.write_text(DEFINITION.replace("MODEL", model))
    assert main(["check", str(file)]) == 0
    assert main(["check", "--models", str(file)]) == 3
    assert "has no alias 'best'" in capsys.readouterr().out
    mlflow_hook.set_alias(model, "best", "1")
    file.write_text(file.read_text().replace("nobody-made-this", model))
    assert main(["check", "--models", str(file)]) == 0


def test_an_mlflow_that_is_away_is_no_mistake_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", '{"conn_type": "http", "host": "http://127.0.0.1:9"}')
    with pytest.raises(Unavailable):
        unknown_models(catalog.parse(DEFINITION.encode(), "seven.yaml"), MlflowHook())
