"""The registry against a real MLflow server."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from slipway.domain import DeploymentRecord
from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.registry import BUNDLE_TAG, Registry


@pytest.fixture
def registry(mlflow_hook: MlflowHook) -> Registry:
    return Registry(mlflow_hook)


@pytest.fixture
def model(registry: Registry) -> str:
    """A registered model with three versions, the second of which is champion."""
    name = f"m-{uuid.uuid4().hex[:8]}"
    call = registry.mlflow.call
    call("POST", "/api/2.0/mlflow/registered-models/create", json={"name": name})
    for number in (1, 2, 3):
        tags = [{"key": BUNDLE_TAG, "value": f"digest{number % 2}"}]
        logged = call("POST", "/api/2.0/mlflow/logged-models", json={"experiment_id": "0", "name": name})["model"][
            "info"
        ]
        version = {"name": name, "source": logged["artifact_uri"], "model_id": logged["model_id"], "tags": tags}
        call("POST", "/api/2.0/mlflow/model-versions/create", json=version)
    registry.mlflow.set_alias(name, "champion", "2")
    return name


def record(model: str, version: str, at: datetime | None = None) -> DeploymentRecord:
    return DeploymentRecord(
        endpoint="e", target="mlflow", url="http://127.0.0.1:5100/endpoints/e", model=model, version=version,
        deployment=f"v{version}-00000000", deployed_at=at or datetime.now(UTC), run="deploy_mlflow/x",
    )  # fmt: skip


def test_a_version_is_resolved_by_number_by_alias_and_by_default_to_the_newest(registry: Registry, model: str) -> None:
    assert registry.resolve(model, version="1").version == "1"
    assert registry.resolve(model, alias="champion").version == "2"
    assert registry.resolve(model).version == "3"


def test_what_is_not_there_is_named_with_what_is(registry: Registry, model: str) -> None:
    with pytest.raises(NotFound, match=r"has no version '9' \(it has 3, 2, 1\)"):
        registry.resolve(model, version="9")
    with pytest.raises(NotFound, match=r"has no alias 'best' \(its aliases: 'champion'\)"):
        registry.resolve(model, alias="best")
    for arguments in ({}, {"version": "1"}, {"alias": "champion"}):
        with pytest.raises(NotFound, match=r"'nope' is not registered .* run register_model"):
            registry.resolve("nope", **arguments)


@pytest.mark.parametrize("version", ["one", "1.0", "-1", "1' OR '1'='1"])
def test_a_version_that_is_no_number_is_refused(registry: Registry, model: str, version: str) -> None:
    with pytest.raises(UserError, match="is not a number"):
        registry.resolve(model, version=version)


def test_version_and_alias_together_are_refused(registry: Registry, model: str) -> None:
    with pytest.raises(UserError, match="give one of the two"):
        registry.resolve(model, version="1", alias="champion")


def test_the_newest_version_of_a_digest_is_found(registry: Registry, model: str) -> None:
    found = registry.find_by_digest(model, "digest1")
    assert found is not None
    assert found.version == "3"
    assert registry.find_by_digest(model, "other") is None
    assert registry.find_by_digest("nope", "digest1") is None


def test_an_endpoint_has_one_record_which_moves_with_it(registry: Registry, model: str) -> None:
    assert registry.find_deployment(model, "mlflow", "e") is None
    registry.record(record(model, "1"))
    registry.record(record(model, "2"))
    assert [r.version for _, r in registry.deployments(model)] == ["2"]
    assert registry.forget(model, "mlflow", "e")
    assert not registry.forget(model, "mlflow", "e")
    assert list(registry.deployments(model)) == []


def test_of_two_records_left_by_a_killed_task_the_newer_counts(registry: Registry, model: str) -> None:
    for version, age in (("1", 0), ("2", 60)):
        entry = record(model, version, datetime.now(UTC) - timedelta(seconds=age))
        registry.mlflow.set_version_tag(
            registry.resolve(model, version), "slipway.deployment.mlflow.e", entry.model_dump_json()
        )
    found = registry.find_deployment(model, "mlflow", "e")
    assert found is not None
    assert found.version == "1"


def test_a_version_that_slipway_did_not_register_has_no_manifest(registry: Registry, model: str) -> None:
    with pytest.raises(UserError, match=r"was not registered by Slipway, .* model_uri 'models:/"):
        registry.manifest(registry.resolve(model))


def test_a_server_that_is_away_is_a_passing_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_NOWHERE", "http://127.0.0.1:9")
    monkeypatch.setattr("slipway.hooks.rest._PAUSES", ())
    with pytest.raises(Unavailable, match=r"The MLflow server does not answer at http://127\.0\.0\.1:9"):
        Registry(MlflowHook("nowhere")).resolve("m")


def test_a_connection_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match="Connection 'absent' does not exist: create it"):
        Registry(MlflowHook("absent")).resolve("m")
