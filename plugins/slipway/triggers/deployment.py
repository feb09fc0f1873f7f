"""What the waits for one deployment share: which one it is, and until when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.errors import NotFound, SlipwayError, Unavailable

__all__ = ["DeploymentTrigger", "check_there"]


class DeploymentTrigger(BaseTrigger):
    """Base of the waits until a deployment has come up or failed.

    None has an `on_kill`: a deploy that is cancelled is undone by its DAG's last tasks, and what a cleared one goes on
    with must not be taken away by its own first try.

    :param conn_id: the target's connection.
    :param endpoint: the endpoint.
    :param deployment: the deployment to wait for.
    :param deadline: when to give up, in seconds since the epoch.
    """

    def __init__(self, conn_id: str, endpoint: str, deployment: str, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.endpoint = endpoint
        self.deployment = deployment
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes the trigger from."""
        names = ("conn_id", "endpoint", "deployment", "deadline")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    def failed(self, error: SlipwayError) -> TriggerEvent:
        """Return the event that it cannot be waited for; what was only removed can be made again."""
        return TriggerEvent({"error": str(error), **({"gone": True} if isinstance(error, NotFound) else {})})

    def late(self, log: str) -> TriggerEvent:
        """Return the event that the deadline has passed.

        :param log: where to look.
        """
        what = f"Deployment {self.deployment} of endpoint '{self.endpoint}'"
        return TriggerEvent(
            {"error": f"{what} was not ready in time: see {log}, or raise [slipway] ready_timeout_seconds."}
        )


def check_there(event: Mapping[str, Any]) -> None:
    """Refuse to go on where somebody took the deployment away: a run of the same deploy that was cancelled, mostly.

    :raises Unavailable: saying so; the next try makes it anew.
    """
    if event.get("gone"):
        raise Unavailable(event["error"])
