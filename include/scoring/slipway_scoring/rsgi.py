"""Granian's Rust HTTP server on a socket of our own.

Granian's own `MPServer` binds its sockets itself and supervises its workers. This drives the same worker class just as
`granian.server.mp.MPServer._spawn_rsgi_worker` does. That is no public API: requirements.txt bounds Granian's version.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any

from granian.http import HTTP1Settings

from slipway_scoring.settings import Settings
from slipway_scoring.sockets import BACKLOG

MAX_CONNECTIONS = 8192
"""Open connections of one worker; more wait in the socket's queue."""

# Looked up at run time: the type stubs that Granian ships are older than its classes.
_granian: Any = import_module("granian._granian")
_futures: Any = import_module("granian._futures")

Callback = Callable[[Any, Any], Awaitable[None]]


class Listener:
    """Answers the connections of one listening socket with an RSGI callback, on the running event loop."""

    def __init__(self, number: int, callback: Callback, listener: socket.socket, settings: Settings) -> None:
        is_uds = listener.family == socket.AF_UNIX
        # The Rust side owns and closes its descriptor: give it one of its own.
        holder = _granian.SocketHolder(os.dup(listener.fileno()), is_uds, BACKLOG)
        worker = _granian.RSGIWorker(
            number,
            (None, holder),
            None,
            backpressure=MAX_CONNECTIONS,
            http_mode="1",
            http1_opts=HTTP1Settings(),
            ssl_enabled=bool(settings.tls_cert),
            ssl_cert=settings.tls_cert or None,
            ssl_key=settings.tls_key or None,
            ssl_protocol_min="tls1.2",
            ssl_crl=[],
            metrics=(None, None),
        )
        loop = asyncio.get_running_loop()
        self._closed = asyncio.Event()
        self._signal = _granian.WorkerSignal()
        self._signal.add_cb(lambda: loop.call_soon_threadsafe(self._closed.set))
        scheduler = _futures._new_cbscheduler(loop, _futures._future_watcher_wrapper(callback), impl_asyncio=True)
        (worker.serve_str_uds if is_uds else worker.serve_str)(scheduler, loop, self._signal)

    async def close(self, seconds: float) -> bool:
        """Stop accepting and let open requests finish; false if some had not after `seconds`."""
        self._signal.set()
        try:
            await asyncio.wait_for(self._closed.wait(), seconds)
        except TimeoutError:
            return False
        return True
