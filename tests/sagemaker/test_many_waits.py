"""Two hundred endpoints that are created at once: one process waits for all, on one client."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.sagemaker.account import Account
from tests.sagemaker.actions import deploy, undeploy

ROOT = Path(__file__).resolve().parents[2]
COUNT = 200


def wait_for(names: list[str]) -> dict[str, Any]:
    """What a process that waits for endpoints says of itself."""
    path = os.pathsep.join(str(ROOT / part) for part in ("", "plugins", "sandbox", "include/stack", "include/scoring"))
    done = subprocess.run(
        [sys.executable, "-m", "tests.sagemaker.many_waits", *names],
        env={**os.environ, "PYTHONPATH": path, "AIRFLOW__SLIPWAY__POLL_SECONDS": "5"}, cwd=ROOT,
        capture_output=True, text=True, check=False, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_two_hundred_waits_take_the_memory_of_one(account: Account, versions: dict[str, str], endpoint: str) -> None:
    run = deploy(endpoint, version=versions["one"])
    assert run.ok, run.error
    config = account.describe(endpoint)["EndpointConfigName"]
    alone = wait_for([endpoint])
    # They end with a failure, so that two hundred servers need not run here.
    account.administer("settings", {"provision_seconds": 15, "outcomes": {"*": {"outcome": "fail"}}})
    names = [f"many-{i}" for i in range(COUNT)]
    for name in names:
        account.sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=config)
    together = wait_for(names)
    for name in names:
        account.settled(name)
        account.sagemaker.delete_endpoint(EndpointName=name)
    assert undeploy(endpoint, delete_data=True).ok
    print({"alone": alone, "together": together})
    assert together["statuses"] == ["Failed"]
    assert (together["clients"], together["left"]) == (1, 0)
    assert together["rss"] < 1.5 * alone["rss"]
