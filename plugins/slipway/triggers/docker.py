"""Wait until a deployment on a Docker Engine has come up or failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from slipway.errors import SlipwayError, Unavailable
from slipway.hooks.docker import DockerEndpointHook

__all__ = ["DockerDeploymentTrigger"]

_PAUSE_SECONDS = 2.0


class DockerDeploymentTrigger(BaseTrigger):
    """Ask the engine until the deployment is ready.

    The event is `{}`, or `{"error": sentence}` if the container ended or `deadline` passed.

    :param conn_id: the engine's connection.
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

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        # docker-py blocks, so it has a thread to do it in.
        state = sync_to_async(self._state, thread_sensitive=False)
        while time.time() < self.deadline:
            try:
                if await state() == "ready":
                    yield TriggerEvent({})
                    return
            except Unavailable as e:
                # The engine starts its containers again after a restart: keep asking until the deadline.
                self.log.warning("%s", e)
            except SlipwayError as e:
                yield TriggerEvent({"error": str(e)})
                return
            await asyncio.sleep(_PAUSE_SECONDS)
        yield TriggerEvent(
            {
                "error": f"Deployment {self.deployment} of endpoint '{self.endpoint}' was not ready in time: see its "
                "container's log, or raise [slipway] ready_timeout_seconds."
            }
        )

    def _state(self) -> str:
        return DockerEndpointHook(self.conn_id).deployment_state(self.endpoint, self.deployment)
