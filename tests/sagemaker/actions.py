"""The two DAGs as one call each."""

from __future__ import annotations

from typing import Any

from tests.sagemaker.account import IMAGE
from tests.sagemaker.driver import Run


def deploy(endpoint: str, run_id: str = "manual", **conf: Any) -> Run:
    """Deploy model `echo` with an image that is taken on trust."""
    return Run("deploy_sagemaker", {"model": "echo", "endpoint": endpoint, "image": IMAGE, **conf}, run_id).go()


def undeploy(endpoint: str, run_id: str = "manual", **conf: Any) -> Run:
    """Undeploy it."""
    return Run("undeploy_sagemaker", {"model": "echo", "endpoint": endpoint, **conf}, run_id).go()
