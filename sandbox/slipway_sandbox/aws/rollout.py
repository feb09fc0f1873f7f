"""Blue/green updates: traffic moves to the new fleet all at once, by a canary or in steps, while alarms are watched.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green.html
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from slipway_sandbox.aws import neighbours
from slipway_sandbox.aws.protocol import AwsError
from slipway_sandbox.aws.store import Endpoint, Region

__all__ = ["Rollback", "check_deployment", "shift_traffic"]

_LOOK_SECONDS = 0.02
_PERCENT = {"CanarySize": range(1, 51), "LinearStepSize": range(10, 51)}
_SIZES = {"ALL_AT_ONCE": None, "CANARY": "CanarySize", "LINEAR": "LinearStepSize"}


class Rollback(Exception):
    """Why an update goes back."""


def check_deployment(region: str, deployment: dict[str, Any] | None) -> None:
    """Check an update's DeploymentConfig.

    :raises AwsError: if the service would refuse it.
    """
    if deployment is None:
        return
    policy = deployment.get("BlueGreenUpdatePolicy")
    if policy is None:
        raise AwsError("ValidationException", "The sandbox updates endpoints by a BlueGreenUpdatePolicy.")
    routing = policy["TrafficRoutingConfiguration"]
    wanted = _SIZES[routing["Type"]]
    for key, allowed in _PERCENT.items():
        size = routing.get(key)
        if (size is not None) != (key == wanted):
            raise AwsError("ValidationException", f"{key} goes with its own type, not with {routing['Type']}.")
        if size and size["Type"] == "CAPACITY_PERCENT" and size["Value"] not in allowed:
            raise AwsError("ValidationException", f"{key} must be {allowed[0]} to {allowed[-1]} percent.")
    limit = policy.get("MaximumExecutionTimeoutInSeconds")
    said = routing["WaitIntervalInSeconds"] + policy.get("TerminationWaitInSeconds", 0)
    if limit is not None and max(said, sum(wait for _, wait in _steps(policy))) >= limit:
        raise AwsError(
            "ValidationException",
            "MaximumExecutionTimeoutInSeconds must be larger than the total waiting time specified in "
            "TerminationWaitInSeconds and WaitIntervalInSeconds.",
        )
    for name in _alarms(deployment):
        if neighbours.alarm_state(region, name) is None:
            raise AwsError("ValidationException", f"CloudWatch alarm {name} does not exist.")


def shift_traffic(region: Region, endpoint: Endpoint, time_scale: float) -> None:
    """Move an endpoint's traffic to its candidate, in the steps that its deployment says.

    :param time_scale: of the waits between the steps.
    :raises Rollback: if an alarm goes off on the way.
    """
    deployment = endpoint.deployment or {}
    policy = deployment.get("BlueGreenUpdatePolicy") or {}
    alarms = _alarms(deployment)
    for share, wait in _steps(policy):
        endpoint.share = share
        _watch(region.name, alarms, wait * time_scale)


def _steps(policy: dict[str, Any]) -> Iterator[tuple[float, float]]:
    """Yield each share of the new fleet, and for how many seconds it stays so."""
    # What follows the last step, with all traffic on the new fleet, is the wait for the old one's end alone.
    routing = policy.get("TrafficRoutingConfiguration") or {"Type": "ALL_AT_ONCE"}
    wait = float(routing.get("WaitIntervalInSeconds", 0))
    key = _SIZES[routing["Type"]]
    if key:
        # One server stands for all instances, so that a number of them is taken for a percentage of ten.
        size = routing[key]
        step = size["Value"] / (100 if size["Type"] == "CAPACITY_PERCENT" else 10)
        share = step
        while share < 1.0:
            yield share, wait
            share = 1.0 if key == "CanarySize" else share + step
    yield 1.0, float(policy.get("TerminationWaitInSeconds", 0))


def _watch(region: str, alarms: list[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        if off := [name for name in alarms if neighbours.alarm_state(region, name) == "ALARM"]:
            raise Rollback(f"Alarm(s) {', '.join(off)} went into ALARM state during the deployment.")
        if time.monotonic() >= deadline:
            return
        time.sleep(_LOOK_SECONDS)


def _alarms(deployment: dict[str, Any]) -> list[str]:
    return [alarm["AlarmName"] for alarm in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", [])]
