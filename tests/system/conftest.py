"""One real stack (Airflow, MLflow, model host) for all system tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stack.running import RunningStack, running_stack


@pytest.fixture(scope="session")
def stack() -> Iterator[RunningStack]:
    # Bundles that never end or eat the machine are among the tests: do not wait minutes for each.
    limits = {
        "AIRFLOW__SLIPWAY__PROBE_TIMEOUT_SECONDS": "25",
        "AIRFLOW__SLIPWAY__PROBE_MEMORY_BYTES": str(2 * 1024**3),
        # A cancelled deploy is undone when its worker must have noticed.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        # One for each of Airflow's simple roles that the Models page treats differently.
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,uma:user,vic:viewer",
    }
    with running_stack(limits) as running:
        yield running
