"""Keeps one scoring server up: starts it, waits until it is ready, checks its health, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from .config import Config
from .environment import Plan
from .errors import DeploymentFailure
from .frontdoor.routing import Upstream
from .logs import LogFile, last_words
from .process import ChildProcess, Guard

_POLL_SECONDS = 0.05
_POLL_MAX_SECONDS = 0.5
_JITTER = 0.25


class Backoff:
    """Pauses before restarts: doubling, capped, with jitter so that many servers do not start at the same moment."""

    def __init__(self, first: float, longest: float, stable: float) -> None:
        self._first, self._longest, self._stable = first, longest, stable
        self._next = first

    def pause(self, uptime: float) -> float:
        """The pause in seconds, after a run of `uptime` seconds."""
        if uptime >= self._stable:
            self._next = self._first
        pause = self._next
        self._next = min(self._next * 2, self._longest)
        return pause * (1 + random.uniform(-_JITTER, _JITTER))


class Supervisor:
    """One deployment's scoring server.

    Args:
        prepare: makes or finds the model's files and environment; called before each start, so that what somebody
            removed in the meantime is made again.
        keep: whether a server that ends is started again; asked when it ends.
        on_change: called when the server comes up, goes away or is about to be started.
    """

    def __init__(
        self,
        config: Config,
        guard: Guard,
        upstream: Upstream,
        log: LogFile,
        socket_path: Callable[[], Path],
        prepare: Callable[[], Awaitable[Plan]],
        keep: Callable[[], bool],
        on_change: Callable[[], None],
    ) -> None:
        self._config = config
        self._guard = guard
        self._upstream = upstream
        self._log = log
        self._socket_path = socket_path
        self._prepare = prepare
        self._keep = keep
        self._on_change = on_change
        self._process: ChildProcess | None = None
        self._socket: Path | None = None
        self.restarts = 0
        self.up = False
        self.trouble: str | None = None
        """Why the server is away, while it is."""

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.running else None

    async def run(self) -> None:
        """Keep the server up until cancelled; end with `stop`.

        Raises:
            DeploymentFailure: it did not come up, or went down, and is not to be kept.
        """
        config = self._config
        backoff = Backoff(config.backoff_seconds, config.backoff_max_seconds, config.stable_seconds)
        while True:
            started = time.monotonic()
            try:
                await self._start()
                started = time.monotonic()
                await self._watch()
            except DeploymentFailure as failure:
                self.trouble = str(failure)
                self._log.note(self.trouble)
                if not self._keep():
                    raise
            finally:
                self._away()
            pause = backoff.pause(time.monotonic() - started)
            self._upstream.down(pause + 1)
            self._on_change()
            await asyncio.sleep(pause)
            self.restarts += 1

    async def stop(self, grace: float) -> None:
        """End the server: SIGTERM, after `grace` seconds SIGKILL to its group."""
        if self._process is not None:
            await self._process.stop(grace)
        self._away()

    def _away(self) -> None:
        self.up = False
        self._upstream.down(1)
        if self._socket is not None:
            self._socket.unlink(missing_ok=True)

    async def _start(self) -> None:
        plan = await self._prepare()
        self._socket = self._socket_path()
        self._log.note(f"starting {' '.join(plan.command)}")
        try:
            self._process = await ChildProcess.start(
                [*plan.command, "--uds", str(self._socket)], plan.variables, plan.work, self._log, self._guard,
                memory=self._config.server_memory_bytes, open_files=self._config.server_open_files,
            )  # fmt: skip
        except OSError as error:
            raise DeploymentFailure(
                f"The scoring server cannot be started ({error.strerror}); check the host's limits on processes."
            ) from error
        await self._ready(self._process, self._socket)
        self._upstream.up(str(self._socket), self._config.server_connections)
        self.up, self.trouble = True, None
        self._on_change()

    async def _ready(self, process: ChildProcess, socket: Path) -> None:
        end = time.monotonic() + self._config.start_seconds
        pause = _POLL_SECONDS
        while time.monotonic() < end:
            if not process.running:
                raise DeploymentFailure(await self._last_words(process, "ended before it was ready"))
            if await ping(socket, self._config.health_timeout_seconds):
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, _POLL_MAX_SECONDS)
        process.signal(signal.SIGKILL)
        limit = f"was not ready within {self._config.start_seconds:g} s"
        raise DeploymentFailure(await self._last_words(process, limit))

    async def _watch(self) -> None:
        """Return never; raise when the server ended by itself, or hung and was killed."""
        process, socket = self._process, self._socket
        if process is None or socket is None:
            raise AssertionError("watching a server that was not started")
        failures = 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._config.health_interval_seconds):
                    await process.wait()
                self._away()
                raise DeploymentFailure(await self._last_words(process, "ended"))
            # Any whole answer since the last check proves life better than another request could.
            fresh = time.monotonic() - self._upstream.last_answer < self._config.health_interval_seconds
            if fresh or await ping(socket, self._config.health_timeout_seconds):
                failures = 0
                continue
            failures += 1
            if failures >= self._config.health_failures and process.running:
                self._away()
                process.signal(signal.SIGKILL)
                await process.wait()
                raise DeploymentFailure(
                    f"The scoring server did not answer {failures} health checks and was killed; see its log."
                )

    async def _last_words(self, process: ChildProcess, what: str) -> str:
        code = await process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        return (
            f"The scoring server {what} ({how}): {last_words(self._log.tail).rstrip('.')}; "
            "mend the model and register it again, or see the log."
        )


async def ping(socket: Path, patience: float) -> bool:
    """Whether the server on a Unix socket answers GET /ping with 200 within `patience` seconds."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_unix_connection(socket)
            try:
                writer.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                status = await reader.readline()
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError):
        return False
    return status.split(b" ")[1:2] == [b"200"]
