"""Wait until a deployment on the model host has come up or failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.errors import SlipwayError, Unavailable
from slipway.hooks.model_host import PENDING, ModelHostHook

__all__ = ["ModelHostDeploymentTrigger"]

_LONG_POLL_SECONDS = 20.0
_PAUSE_SECONDS = 2.0


class ModelHostDeploymentTrigger(BaseTrigger):
    """Ask the model host, by long polls, until the deployment has left its pending states.

    The event is `{"deployment": …}`, or `{"error": sentence}` if the host lost it or `deadline` passed.

    :param conn_id: the model host's connection.
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
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "conn_id": self.conn_id,
                "endpoint": self.endpoint,
                "deployment": self.deployment,
                "deadline": self.deadline,
            },
        )

    async def on_kill(self) -> None:
        """Leave nothing behind when somebody clears the deferred task or marks its state."""
        await ModelHostHook(self.conn_id).discard(self.endpoint, self.deployment)

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        hook = ModelHostHook(self.conn_id)
        while time.time() < self.deadline:
            try:
                found = await hook.wait_for_deployment(self.endpoint, self.deployment, _LONG_POLL_SECONDS)
            except Unavailable as e:
                # The host restores its deployments after a restart: keep asking until the deadline.
                self.log.warning("%s", e)
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            except SlipwayError as e:
                yield TriggerEvent({"error": str(e)})
                return
            if found["state"] not in PENDING:
                yield TriggerEvent({"deployment": found})
                return
        yield TriggerEvent(
            {
                "error": f"Deployment {self.deployment} of endpoint '{self.endpoint}' was not ready in time: "
                "see the scoring server's log on the model host, or raise [slipway] ready_timeout_seconds."
            }
        )
