"""Point the stack that `make demo` started to the sandbox: Airflow's connection `aws_default`, and its Variables."""

from __future__ import annotations

import json

from slipway_sandbox.aws.server import Sandbox
from slipway_stack import lifecycle
from slipway_stack.airflow_api import AirflowClient, AirflowError
from slipway_stack.settings import Stack

__all__ = ["connect"]


def connect(sandbox: Sandbox) -> str:
    """Set them, over Airflow's own API; return what was done, in words."""
    stack = Stack.from_environment()
    if lifecycle.well(stack) is None:
        return "No stack runs here: start one with `make demo`, and this sandbox again."
    connection = sandbox.connection
    body = {**connection, "connection_id": "aws_default", "extra": json.dumps(connection["extra"])}
    try:
        with lifecycle.client(stack) as airflow:
            _put(airflow, "/connections", "aws_default", body)
            for name, value in sandbox.variables.items():
                _put(airflow, "/variables", name, {"key": name, "value": value})
    except AirflowError as error:
        return f"The stack could not be connected: {error}"
    return f"Airflow at {stack.url('airflow')} uses it: deploy_sagemaker is ready."


def _put(airflow: AirflowClient, path: str, name: str, body: dict[str, object]) -> None:
    """Create something, or replace it where it is there."""
    if airflow.raw("GET", f"/api/v2{path}/{name}").status_code == 404:
        airflow.request("POST", path, json=body)
    else:
        airflow.request("PATCH", f"{path}/{name}", json=body)
