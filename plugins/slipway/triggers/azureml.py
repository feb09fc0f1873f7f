"""Wait until an endpoint or a deployment in AzureML has settled."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway import settings
from slipway.azureml.arm import PENDING, state_of
from slipway.azureml.watch import Watcher, watcher
from slipway.errors import SlipwayError, Unavailable
from slipway.hooks.azureml import AzureMLHook

__all__ = ["AzureMLStateTrigger"]

_FIRST_PAUSE_SECONDS = 2.0
_LONGEST_RETRY_AFTER_SECONDS = 300.0


class AzureMLStateTrigger(BaseTrigger):
    """Ask Azure until no operation on a resource is under way.

    The event is `{"path", "state", "operation", "error"}`: the provisioning state (None: it is gone) and Azure's
    `{"code", "message"}` of an operation that failed; or `{"path", "refused": sentence}` if Azure refuses to tell; or
    `{"path", "late": state}` if `deadline` passed.

    :param conn_id: the workspace's connection.
    :param path: the resource below the workspace.
    :param operation: URL of the operation, where it is known; it tells why a failure failed.
    :param deadline: when to give up, in seconds since the epoch.
    """

    def __init__(self, conn_id: str, path: str, operation: str | None, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.path = path
        self.operation = operation
        self.deadline = deadline

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes the trigger from."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "conn_id": self.conn_id,
                "path": self.path,
                "operation": self.operation,
                "deadline": self.deadline,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        state: str | None = None
        azure: Watcher | None = None
        longest = settings.poll_seconds()
        pause = min(_FIRST_PAUSE_SECONDS, longest)
        while True:
            asked = 0.0
            try:
                if azure is None:
                    azure = watcher(await AzureMLHook(self.conn_id).aworkspace())
                state = state_of(await azure.get(self.path))
                if state not in PENDING:
                    known = {"operation": self.operation, "error": await self._error(azure, state)}
                    yield TriggerEvent({"path": self.path, "state": state, **known})
                    return
            except Unavailable as e:
                # Azure comes back, and goes on meanwhile with what it was asked for: keep looking until the deadline.
                self.log.warning("%s", e)
                asked = min(_seconds(e.code), _LONGEST_RETRY_AFTER_SECONDS)
            except SlipwayError as e:
                yield TriggerEvent({"path": self.path, "refused": str(e)})
                return
            if time.time() > self.deadline:
                yield TriggerEvent({"path": self.path, "late": state or "not seen"})
                return
            # Not all at the same moment, where many wait.
            await asyncio.sleep(max(pause * random.uniform(0.7, 1.3), asked * random.uniform(1.0, 1.3)))
            pause = min(pause * 1.5, longest)

    async def _error(self, azure: Watcher, state: str | None) -> dict[str, Any] | None:
        if state not in {"Failed", "Canceled"} or self.operation is None:
            return None
        status = await azure.get(self.operation)
        return (status or {}).get("error")


def _seconds(text: str) -> float:
    """Return what a `Retry-After` asks for; 0 if it is a date, or something else."""
    return float(text) if text.isdecimal() else 0.0
