"""A real MLflow with versions that answer their own name, and a sandbox whose servers are processes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.hooks.mlflow import MlflowHook
from slipway.registry import LOCK_TAG
from slipway_sandbox.aws.server import Sandbox
from slipway_sandbox.aws.settings import Place
from tests.model_host.hosts import ModelMaker, compile_lock
from tests.plugins.conftest import mlflow_url
from tests.sagemaker.account import Account

__all__ = ["mlflow_url"]

SAMPLE = {"dataframe_split": {"columns": ["a"], "data": [[1.0], [2.0]]}}


@pytest.fixture(scope="package")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sagemaker")


@pytest.fixture(scope="package")
def environment(mlflow_url: str, home: Path) -> Iterator[dict[str, str]]:
    """Airflow's connections and Variables, for this process and those that it starts."""
    with Sandbox(Place(home / "aws", home / "environments", containers=False)) as sandbox:
        values = {
            **{k: v for k, v in sandbox.environment.items() if k.startswith("AIRFLOW_")},
            "AIRFLOW_CONN_MLFLOW_DEFAULT": json.dumps({"conn_type": "http", "host": mlflow_url}),
            "SANDBOX_URL": sandbox.url,
            "AIRFLOW__SLIPWAY__POLL_SECONDS": "0.2",
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in values.items():
                patch.setenv(name, value)
            yield values


@pytest.fixture(scope="package")
def versions(environment: dict[str, str], home: Path) -> dict[str, str]:
    """The versions of model `echo`: what each answers, and its number. `broken` does not load, `liar` answers wrong."""
    maker = ModelMaker(home / "models", compile_lock(home))
    found = {}
    for answer in ("one", "two", "three", "four", "broken", "liar"):
        model = maker.make(answer, "echo")
        manifest = model.folder / "slipway" / "manifest.json"
        expected = "truth" if answer == "liar" else answer
        golden = {"golden": {"input": SAMPLE, "output": [expected, expected]}}
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | golden))
        tags = {LOCK_TAG: maker.digest, "slipway.run": f"test-{answer}"}
        found[answer] = MlflowHook().log_version("echo", model.folder, tags).version
    return found


@pytest.fixture
def account(environment: dict[str, str]) -> Iterator[Account]:
    """The sandbox's account; what a test changed of its behaviour is set back."""
    account = Account(environment["SANDBOX_URL"])
    yield account
    account.administer("faults", [])
    account.administer(
        "settings", {"outcomes": {}, "quota": {}, "provision_seconds": 0, "delete_seconds": 0, "stale_reads": 0}
    )


@pytest.fixture
def endpoint(request: pytest.FixtureRequest) -> str:
    """A name of the test's own."""
    return (
        str(request.node.name)
        .removeprefix("test_")
        .replace("_", "-")
        .replace("[", "-")
        .replace("]", "")[:40]
        .strip("-")
    )
