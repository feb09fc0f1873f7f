"""Wait until a deployment on the model host has come up or failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

from airflow.triggers.base import TriggerEvent

from slipway.errors import SlipwayError, Unavailable
from slipway.hooks.model_host import PENDING, ModelHostHook
from slipway.triggers.deployment import DeploymentTrigger

__all__ = ["ModelHostDeploymentTrigger"]

_LONG_POLL_SECONDS = 20.0
_PAUSE_SECONDS = 2.0


class ModelHostDeploymentTrigger(DeploymentTrigger):
    """Ask the model host, by long polls, until the deployment has left its pending states.

    The event is `{"deployment": …}`, or `{"error": sentence}` if the host refuses or `deadline` passed, with
    `"gone": True` if the deployment is not there any more.
    """

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
                yield self.failed(e)
                return
            if found["state"] not in PENDING:
                yield TriggerEvent({"deployment": found})
                return
        yield self.late("the scoring server's log on the model host")
