"""Models that answer their own version, and the environment that they share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.model_host.hosts import ModelMaker, compile_lock


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    folder = tmp_path_factory.mktemp("models")
    return ModelMaker(folder, compile_lock(folder))


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("environments")
