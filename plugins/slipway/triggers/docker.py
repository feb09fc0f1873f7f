"""Wait until a deployment on a Docker Engine has come up or failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from airflow.triggers.base import TriggerEvent
from asgiref.sync import sync_to_async

from slipway.errors import SlipwayError, Unavailable
from slipway.hooks.docker_candidate import Candidate
from slipway.triggers.deployment import DeploymentTrigger

__all__ = ["DockerDeploymentTrigger"]

_PAUSE_SECONDS = 2.0


class DockerDeploymentTrigger(DeploymentTrigger):
    """Ask the engine until the deployment is ready.

    The event is `{}`, or `{"error": sentence}` if the container ended or `deadline` passed, with `"gone": True` if
    somebody removed it.
    """

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        # docker-py blocks, so it has a thread to do it in.
        candidate = Candidate(self.conn_id, self.endpoint, self.deployment)
        state = sync_to_async(candidate.state, thread_sensitive=False)
        while time.time() < self.deadline:
            try:
                if await state() == "ready":
                    yield TriggerEvent({})
                    return
            except Unavailable as e:
                # The engine may be restarted: keep asking until the deadline.
                self.log.warning("%s", e)
            except SlipwayError as e:
                yield self.failed(e)
                return
            await asyncio.sleep(_PAUSE_SECONDS)
        yield self.late("its container's log")
