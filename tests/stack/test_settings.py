"""Where the stack lives and on which ports: variables, what was recorded, defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from slipway_stack.errors import StackError
from slipway_stack.settings import CHECKOUT, Stack


def test_the_defaults() -> None:
    stack = Stack.from_environment({"SLIPWAY_HOME": ""})
    assert stack.home == CHECKOUT / ".slipway"
    assert (CHECKOUT / "Makefile").exists()


def test_a_variable_wins_over_what_was_recorded_and_that_over_the_default(tmp_path: Path) -> None:
    variables = {"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_AIRFLOW_PORT": "18080"}
    Stack.from_environment(variables).record()
    later = Stack.from_environment({"SLIPWAY_HOME": str(tmp_path), "SLIPWAY_MLFLOW_PORT": "15000"})
    assert later.ports == {"airflow": 18080, "mlflow": 15000, "model_host": 5100, "model_host_admin": 5101}
    assert later.url("airflow") == "http://127.0.0.1:18080"


@pytest.mark.parametrize("port", ["web", "0", "70000", "-1", "80 80"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(StackError, match=f"SLIPWAY_MLFLOW_PORT is '{port}': give a port number"):
        Stack.from_environment({"SLIPWAY_MLFLOW_PORT": port})


def test_one_port_for_two_is_refused() -> None:
    with pytest.raises(StackError, match="SLIPWAY_MLFLOW_PORT is 8080, which another part of the stack uses"):
        Stack.from_environment({"SLIPWAY_MLFLOW_PORT": "8080", "SLIPWAY_AIRFLOW_PORT": "8080"})
