"""The pool of kept-alive connections to one scoring server's Unix socket."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from .backend import BackendConnection

if TYPE_CHECKING:
    from .exchange import Exchange

# A full listen backlog answers EAGAIN on a Unix socket at once, so patience has to be here.
_CONNECT_TRIES = 40
_CONNECT_PAUSE = 0.025


class Pool:
    """Idle connections are used last in, first out, so that surplus ones age; beyond the limit, requests queue."""

    __slots__ = ("_closed", "_connections", "_idle", "_limit", "_tasks", "_waiting", "path")

    def __init__(self, path: str, limit: int) -> None:
        self.path = path
        self._limit = limit
        self._idle: list[BackendConnection] = []
        self._connections = 0
        self._waiting: deque[Exchange] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def submit(self, exchange: Exchange, *, fresh: bool) -> None:
        """Send `exchange` on an idle connection, a new one (always, if `fresh`), or the next that is free."""
        if self._idle and not fresh:
            self._idle.pop().send(exchange, reused=True)
        elif self._connections < self._limit:
            self._connections += 1
            task = asyncio.get_running_loop().create_task(self._connect(exchange))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._waiting.append(exchange)

    async def _connect(self, exchange: Exchange) -> None:
        loop = asyncio.get_running_loop()
        for attempt in range(_CONNECT_TRIES):
            try:
                _, connection = await loop.create_unix_connection(lambda: BackendConnection(self), self.path)
            except BlockingIOError:
                if attempt + 1 < _CONNECT_TRIES:
                    await asyncio.sleep(_CONNECT_PAUSE)
            except OSError:
                break
            else:
                if exchange.done:
                    self.release(connection)
                else:
                    connection.send(exchange, reused=False)
                return
        self.forget()
        if not exchange.done:
            exchange.unreachable()

    def release(self, connection: BackendConnection) -> None:
        """Take back a connection whose answer was read to its end."""
        if self._closed:
            connection.close()
            return
        while self._waiting:
            exchange = self._waiting.popleft()
            if not exchange.done:
                connection.send(exchange, reused=True)
                return
        self._idle.append(connection)

    def forget(self, connection: BackendConnection | None = None) -> None:
        """A connection was lost or never came to be; a waiting request may try for a new one."""
        self._connections -= 1
        if connection is not None and connection in self._idle:
            self._idle.remove(connection)
        while self._waiting and not self._closed:
            exchange = self._waiting.popleft()
            if not exchange.done:
                self.submit(exchange, fresh=True)
                return

    def close(self) -> None:
        """Close what is idle; what is in use ends with its exchange or with its server."""
        self._closed = True
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        waiting, self._waiting = self._waiting, deque()
        for exchange in waiting:
            if not exchange.done:
                exchange.unreachable()
