"""The listening side of the front door and what all its connections share."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from dataclasses import dataclass

from ..errors import HostError, not_found
from .client import ClientConnection
from .framing import split_target
from .routing import Routes, Upstream
from .wire import own_answer


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on what one client may take; sizes in bytes, times in seconds."""

    replay_bytes: int = 64 * 1024
    """A request's body up to this size is held until its answer begins, so that it can be sent again."""
    keep_alive_seconds: float = 75.0
    client_seconds: float = 60.0
    """A client that neither sends the rest of its request nor takes its answer is cut off after this."""
    answer_seconds: float = 300.0
    """A scoring server that neither takes a body nor answers for this long has failed the request."""
    linger_seconds: float = 5.0
    connections: int = 8192


class FrontDoor:
    """Accepts connections and knows the routes.

    Args:
        routes: the table that requests are routed by; written by the deployments.
        scheme: what clients use to get here, for `X-Forwarded-Proto`.
        limits: bounds for each connection.
    """

    def __init__(self, routes: Routes, scheme: str = "http", limits: Limits | None = None) -> None:
        self.routes = routes
        self.scheme = scheme.encode()
        self.limits = limits or Limits()
        self.closing = False
        self._clients: set[ClientConnection] = set()
        self._server: asyncio.Server | None = None
        self._empty = asyncio.Event()
        self._clock: asyncio.Task[None] | None = None

    async def start(self, sock: socket.socket) -> None:
        """Accept connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: ClientConnection(self), sock=sock, backlog=1024)
        self._clock = loop.create_task(self._tick())

    async def stop(self, patience: float) -> None:
        """Accept no more, let what is in flight end for at most `patience` seconds, then break what is left."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        for client in list(self._clients):
            client.close_if_idle()
        if self._clients:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience)
        for client in list(self._clients):
            client.abort()
        if self._clock is not None:
            self._clock.cancel()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            now = time.monotonic()
            for client in list(self._clients):
                client.check_time(now)

    def joined(self, client: ClientConnection) -> None:
        """A client connected; one too many is sent away at once."""
        self._clients.add(client)
        if len(self._clients) > self.limits.connections:
            error = HostError(503, "REQUEST_LIMIT_EXCEEDED", "The model host has too many open connections.", 1)
            client.write(own_answer(503, error.body(), retry_after=1, close=True, head_only=False))
            client.close_if_idle()

    def left(self, client: ClientConnection) -> None:
        """A client's connection is gone."""
        self._clients.discard(client)
        if not self._clients and self.closing:
            self._empty.set()

    def place(self, target: bytes) -> tuple[bytes, bytes] | None:
        """The endpoint that a request's target names, and the path there; None if it names none."""
        return split_target(target)

    def prefix(self, endpoint: bytes) -> bytes:
        """Below which path clients find an endpoint, for `X-Forwarded-Prefix`."""
        return b"/endpoints/" + endpoint

    def pick(self, endpoint: bytes, deployment: bytes | None, target: bytes) -> Upstream:
        """The upstream for a request.

        Raises:
            HostError: 404 or 503.
        """
        if not endpoint:
            shown = target[:200].decode("ascii", "replace")
            raise not_found(f"Nothing is served at '{shown}'; call /endpoints/{{endpoint}}/invocations.")
        return self.routes.pick(endpoint, deployment)

    def own(self, method: bytes, target: bytes) -> bytes | None:
        """The body of the front door's own health route, or None for every other target."""
        return b'{"status": "ok"}' if target == b"/health" and method in {b"GET", b"HEAD"} else None
