"""Models that are made once, and servers that many tests may share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.scoring import models
from tests.scoring.inprocess import InProcess
from tests.scoring.servers import Server


@pytest.fixture(scope="session")
def iris_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A logistic regression."""
    return models.iris_model(tmp_path_factory.mktemp("iris") / "model")


@pytest.fixture(scope="session")
def mixed_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with a column of every kind."""
    return models.mixed_model(tmp_path_factory.mktemp("mixed") / "model")


@pytest.fixture(scope="session")
def faulty_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that misbehaves when told."""
    return models.faulty_model(tmp_path_factory.mktemp("faulty") / "model")


@pytest.fixture(scope="module")
def iris(iris_directory: Path) -> Iterator[InProcess]:
    """The application with the logistic regression."""
    with InProcess(iris_directory) as server:
        yield server


@pytest.fixture(scope="module")
def mixed(mixed_directory: Path) -> Iterator[InProcess]:
    """The application with the mixed bundle."""
    with InProcess(mixed_directory) as server:
        yield server


@pytest.fixture(scope="session")
def iris_server(iris_directory: Path) -> Iterator[Server]:
    """A running server with the logistic regression."""
    with Server(iris_directory) as server:
        yield server


@pytest.fixture(scope="session")
def mixed_server(mixed_directory: Path) -> Iterator[Server]:
    """A running server with the mixed bundle."""
    with Server(mixed_directory) as server:
        yield server
