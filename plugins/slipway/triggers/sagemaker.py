"""The waits of a SageMaker deploy: until an endpoint has settled, until somebody else's lock is gone.

All waits of one region share one client: a client of SageMaker costs megabytes and half a second, a wait next to
nothing.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway import settings
from slipway.hooks.sagemaker import CHANGING, client_options

__all__ = ["SageMakerEndpointTrigger", "SageMakerLockTrigger"]

_FIRST_PAUSE_SECONDS = 2.0
_GONE = ("ValidationException", "Could not find endpoint")


@dataclass
class _Shared:
    """A client in use: `users` waits have it."""

    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    client: Any = None
    users: int = 0
    opening: asyncio.Lock = field(default_factory=asyncio.Lock)


_clients: dict[tuple[int, str, str, str], _Shared] = {}


@asynccontextmanager
async def _client(service: str, conn_id: str, region: str) -> AsyncIterator[Any]:
    """Lend out the one client of a service, connection and region in this event loop."""
    key = (id(asyncio.get_running_loop()), service, conn_id, region)
    shared = _clients.setdefault(key, _Shared())
    shared.users += 1
    try:
        async with shared.opening:
            if shared.client is None:
                shared.client = await shared.stack.enter_async_context(await _open(service, conn_id, region))
        yield shared.client
    finally:
        shared.users -= 1
        if shared.users == 0:
            _clients.pop(key, None)
            await shared.stack.aclose()


async def _open(service: str, conn_id: str, region: str) -> Any:
    from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

    hook: Any = AwsBaseHook(aws_conn_id=conn_id, region_name=region, client_type=service, config=client_options())
    return await hook.get_async_conn()


class _Polling(BaseTrigger):
    """Looks again and again, with growing pauses, until there is an event or the deadline has passed.

    :param deadline: when to give up, in seconds since the epoch.
    """

    service = ""

    def __init__(self, conn_id: str, region: str, deadline: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.region = region
        self.deadline = deadline

    def arguments(self) -> dict[str, Any]:
        """Return what the trigger is made from."""
        return {"conn_id": self.conn_id, "region": self.region, "deadline": self.deadline}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes the trigger from."""
        return f"{type(self).__module__}.{type(self).__qualname__}", self.arguments()

    async def look(self, client: Any) -> dict[str, Any] | None:
        """Return the event's payload, or None to go on waiting."""
        raise NotImplementedError

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event; `{"late": true}` if the deadline passed first."""
        from botocore.exceptions import BotoCoreError, ClientError

        async with _client(self.service, self.conn_id, self.region) as client:
            longest = settings.poll_seconds()
            pause = min(_FIRST_PAUSE_SECONDS, longest)
            while time.time() < self.deadline:
                try:
                    if event := await self.look(client):
                        yield TriggerEvent(event)
                        return
                except (ClientError, BotoCoreError, OSError) as e:
                    # Throttled or away: what is waited for goes on all the same.
                    self.log.warning("AWS cannot be asked: %s", e)
                # Spread out, so that hundreds of waits do not ask at the same moment.
                await asyncio.sleep(pause * random.uniform(0.7, 1.3))
                pause = min(pause * 1.5, longest)
        yield TriggerEvent({"late": True})


class SageMakerEndpointTrigger(_Polling):
    """Wait until an endpoint has settled, or is gone.

    The event is `{"status": …}`, with `None` for an endpoint that is not there.

    :param endpoint: its name.
    """

    service = "sagemaker"

    def __init__(self, conn_id: str, region: str, deadline: float, endpoint: str) -> None:
        super().__init__(conn_id, region, deadline)
        self.endpoint = endpoint

    def arguments(self) -> dict[str, Any]:
        """Return what the trigger is made from."""
        return {**super().arguments(), "endpoint": self.endpoint}

    async def look(self, client: Any) -> dict[str, Any] | None:
        """Ask for the endpoint's status."""
        from botocore.exceptions import ClientError

        try:
            found = await client.describe_endpoint(EndpointName=self.endpoint)
        except ClientError as e:
            code, message = _GONE
            if e.response["Error"]["Code"] == code and e.response["Error"]["Message"].startswith(message):
                return {"status": None}
            raise
        return None if found["EndpointStatus"] in CHANGING else {"status": found["EndpointStatus"]}


class SageMakerLockTrigger(_Polling):
    """Wait until a lock has gone or changed hands.

    The event is `{"changed": true}`.

    :param bucket: the lock's bucket.
    :param key: its key.
    :param etag: what it is now.
    """

    service = "s3"

    def __init__(self, conn_id: str, region: str, deadline: float, *, bucket: str, key: str, etag: str) -> None:
        super().__init__(conn_id, region, deadline)
        self.bucket = bucket
        self.key = key
        self.etag = etag

    def arguments(self) -> dict[str, Any]:
        """Return what the trigger is made from."""
        return {**super().arguments(), "bucket": self.bucket, "key": self.key, "etag": self.etag}

    async def look(self, client: Any) -> dict[str, Any] | None:
        """Ask for the lock's state."""
        from botocore.exceptions import ClientError

        try:
            found = await client.head_object(Bucket=self.bucket, Key=self.key)
        except ClientError as e:
            if e.response["Error"]["Code"] in {"404", "NoSuchKey"}:
                return {"changed": True}
            raise
        return None if found["ETag"] == self.etag else {"changed": True}
