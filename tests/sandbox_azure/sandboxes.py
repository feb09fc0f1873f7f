"""The Azure sandbox for tests: one for a test session, empty at each test's beginning."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway_sandbox.azure.server import Sandbox, running_sandbox
from slipway_sandbox.azure.settings import Settings
from slipway_stack.ports import pick_free
from tests.model_host.hosts import ModelMaker, compile_lock

PACE = 0.15


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    folder = tmp_path_factory.mktemp("models")
    return ModelMaker(folder, compile_lock(folder))


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")


@pytest.fixture(scope="session")
def running_azure(tmp_path_factory: pytest.TempPathFactory, environments: Path) -> Iterator[Sandbox]:
    """A sandbox whose deployments are processes, so that no engine is needed."""
    port, blob_port = pick_free(2)
    home = tmp_path_factory.mktemp("azure")
    settings = Settings(home, port, blob_port, pace=PACE, containers=False, environments_dir=environments)
    with running_sandbox(settings) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(running_azure: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sandbox]:
    """The sandbox, with this process's variables set to use it; no fault is on, and no endpoint is there."""
    for name, value in running_azure.environment.items():
        monkeypatch.setenv(name, value)
    yield running_azure
    running_azure.reset()
