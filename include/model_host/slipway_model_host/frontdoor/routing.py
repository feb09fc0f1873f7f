"""Where a request goes: endpoints, their live deployment, and the count of what is in flight at each.

The table is read and written by one event loop only, so a switch is one assignment: a request sees the old or the
new deployment, never something between.
"""

from __future__ import annotations

import asyncio
import math
import time

from ..errors import HostError, not_found, unavailable
from .pool import Pool


class Upstream:
    """One deployment as the front door sees it: a socket while its server is up, and its requests in flight."""

    __slots__ = ("_drained", "_path", "back_at", "deployment", "in_flight", "last_answer", "pool", "requests")

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment.encode()
        self.in_flight = 0
        self.requests = 0
        self.last_answer = 0.0
        """Monotonic time of the last whole answer: proof of life for the health check."""
        self.back_at = time.monotonic() + 1.0
        self.pool: Pool | None = None
        self._drained: asyncio.Event | None = None

    def up(self, path: str, max_connections: int) -> None:
        """The server listens on the Unix socket `path`."""
        self.down(0.0)
        self.pool = Pool(path, max_connections)

    def down(self, back_in: float) -> None:
        """The server is away and is expected back in `back_in` seconds."""
        self.back_at = time.monotonic() + back_in
        pool, self.pool = self.pool, None
        if pool is not None:
            pool.close()

    def away(self) -> HostError:
        """The answer while the server is away."""
        wait = max(1, math.ceil(self.back_at - time.monotonic()))
        return unavailable(
            f"The scoring server of deployment '{self.deployment.decode()}' is away and is being started; "
            f"try again in {wait} s.", wait,
        )  # fmt: skip

    def enter(self) -> None:
        """Count a request in."""
        self.in_flight += 1
        self.requests += 1

    def leave(self) -> None:
        """Count a request out, however it ended."""
        self.in_flight -= 1
        if self.in_flight == 0 and self._drained is not None:
            self._drained.set()

    async def drained(self) -> None:
        """Return once nothing is in flight."""
        while self.in_flight:
            if self._drained is None or self._drained.is_set():
                self._drained = asyncio.Event()
            await self._drained.wait()


class Route:
    """One endpoint: the live upstream, and all by deployment id."""

    __slots__ = ("live", "upstreams")

    def __init__(self) -> None:
        self.live: Upstream | None = None
        self.upstreams: dict[bytes, Upstream] = {}


class Routes(dict[bytes, Route]):
    """All endpoints by name."""

    def pick(self, endpoint: bytes, deployment: bytes | None) -> Upstream:
        """The upstream that serves a request arriving now.

        Raises:
            HostError: 404 for an unknown endpoint or deployment, 503 while the server is away.
        """
        route = self.get(endpoint)
        if route is None:
            raise not_found(f"No endpoint '{_shown(endpoint)}' is deployed on this host; deploy it, or check its name.")
        upstream = route.live
        if deployment is not None:
            upstream = route.upstreams.get(deployment)
            if upstream is None:
                raise not_found(
                    f"Endpoint '{_shown(endpoint)}' has no deployment '{_shown(deployment)}'; "
                    "leave out X-Slipway-Deployment to reach the live one."
                )
        if upstream is None:
            raise unavailable(
                f"Endpoint '{_shown(endpoint)}' has no live deployment yet; try again when its deploy has finished.", 1
            )
        if upstream.pool is None:
            raise upstream.away()
        return upstream


def _shown(name: bytes) -> str:
    return name[:80].decode("ascii", "replace")
