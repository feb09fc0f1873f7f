"""What the tests of Kubernetes do again and again: make a workload, wait for its rollout, let it serve."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from slipway.hooks.kubernetes import KubernetesEndpointHook
from slipway.kubernetes.manifests import Workload
from slipway.kubernetes.options import parse
from slipway.triggers.kubernetes import KubernetesRolloutTrigger

BODY = {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}
PLACE = "kubernetes_default/models"


def image(version: str) -> str:
    """The image of the model that answers `version`."""
    return f"registry.example/churn-{version}@sha256:{version * 8}"


def workload(version: str, *, endpoint: str = "churn", **options: Any) -> Workload:
    """Version `version` of the model `churn`, which answers its own number."""
    return Workload(endpoint, f"v{version}-{version * 8}", "churn", version, image(version), parse(options))


def trigger_of(workload: Workload, *, seconds: float = 60.0, patience: float = 1.0) -> KubernetesRolloutTrigger:
    """The wait for a workload's rollout."""
    return KubernetesRolloutTrigger(
        *PLACE.split("/"),
        workload.endpoint,
        workload.deployment,
        deadline=time.time() + seconds,
        patience=patience,
    )


def rollout(workload: Workload, *, seconds: float = 60.0, patience: float = 1.0) -> dict[str, Any]:
    """Wait in the trigger, as the triggerer does; return its event."""
    trigger = trigger_of(workload, seconds=seconds, patience=patience)
    path, arguments = trigger.serialize()
    assert path == "slipway.triggers.kubernetes.KubernetesRolloutTrigger"

    async def wait() -> list[dict[str, Any]]:
        return [event.payload async for event in KubernetesRolloutTrigger(**arguments).run()]

    (event,) = asyncio.run(wait())
    return dict(event)


def go_live(hook: KubernetesEndpointHook, workload: Workload) -> None:
    """Deploy, wait, switch."""
    hook.put_workload(workload)
    event = rollout(workload)
    assert "complete" in event, event
    hook.set_live(workload.endpoint, workload.deployment)
