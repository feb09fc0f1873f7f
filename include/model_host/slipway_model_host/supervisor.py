"""Keeps one scoring server up: starts it, waits until it is ready, checks its health, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NoReturn

from .config import Config
from .environment import Plan
from .errors import DeploymentFailure
from .frontdoor.routing import Upstream
from .logs import LogFile, last_words
from .process import ChildProcess, Guard

_log = logging.getLogger(__name__)

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
        upstream: told where the server listens, and when it is away.
        log: takes the server's output.
        starts: held while a server starts.
        socket_path: names a new Unix socket for each start.
        prepare: makes or finds the model's files and environment; called before each start, so that what somebody
            removed in the meantime is made again.
        keep: whether a server that ends is started again; asked when it ends.
        came_up: called when the server is ready.
    """

    def __init__(
        self,
        config: Config,
        guard: Guard,
        upstream: Upstream,
        log: LogFile,
        *,
        starts: asyncio.Semaphore,
        socket_path: Callable[[], Path],
        prepare: Callable[[], Awaitable[Plan]],
        keep: Callable[[], bool],
        came_up: Callable[[], None],
    ) -> None:
        self._config = config
        self._guard = guard
        self._upstream = upstream
        self._log = log
        self._starts = starts
        self._socket_path = socket_path
        self._prepare = prepare
        self._keep = keep
        self._came_up = came_up
        self._process: ChildProcess | None = None
        self.restarts = 0
        self.up = False
        self.trouble: str | None = None
        """Why the server is away, while it is."""

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.running else None

    async def run(self) -> None:
        """Keep the server up until cancelled; no process is left when this ends.

        Raises:
            DeploymentFailure: it did not come up, or went down, and is not to be kept.
        """
        config = self._config
        backoff = Backoff(config.backoff_seconds, config.backoff_max_seconds, config.stable_seconds)
        while True:
            began = time.monotonic()
            try:
                await self._serve_once()
            except DeploymentFailure as failure:
                trouble = str(failure)
            except Exception:  # noqa: BLE001 - the endpoint has to come back whatever went wrong here
                _log.exception("starting or watching a scoring server failed")
                trouble = "The model host failed on the scoring server; see the host's own log."
            self.trouble = trouble
            self._log.note(trouble)
            _log.warning("%s: %s", self._upstream.deployment.decode(), trouble)
            if not self._keep():
                raise DeploymentFailure(trouble)
            pause = backoff.pause(time.monotonic() - began)
            self._upstream.down(pause + 1)
            await asyncio.sleep(pause)
            self.restarts += 1

    async def _serve_once(self) -> NoReturn:
        """From start to end of one server process; never returns, raises why it ended."""
        self._log.tail.clear()
        plan = await self._prepare()
        socket = self._socket_path()
        try:
            async with self._starts:
                process = self._process = await self._start(plan, socket)
                await self._ready(process, socket)
            self._upstream.up(str(socket), self._config.server_connections)
            self.up, self.trouble = True, None
            self._came_up()
            await self._watch(process, socket)
        finally:
            self.up = False
            self._upstream.down(1)
            if self._process is not None:
                await self._process.stop(self._config.stop_seconds)
            socket.unlink(missing_ok=True)

    async def _start(self, plan: Plan, socket: Path) -> ChildProcess:
        self._log.note(f"starting {' '.join(plan.command)}")
        try:
            return await ChildProcess.start(
                [*plan.command, "--uds", str(socket)], plan.variables, plan.work, self._log, self._guard,
                memory=self._config.server_memory_bytes, open_files=self._config.server_open_files,
            )  # fmt: skip
        except OSError as error:
            raise DeploymentFailure(
                f"The scoring server cannot be started ({error.strerror}); check the host's limits on processes."
            ) from error

    async def _ready(self, process: ChildProcess, socket: Path) -> None:
        end = time.monotonic() + self._config.start_seconds
        pause = _POLL_SECONDS
        while time.monotonic() < end:
            if not process.running:
                raise await self._ended(process, "ended before it was ready")
            if await ping(socket, self._config.health_timeout_seconds):
                return
            await asyncio.sleep(pause)
            pause = min(pause * 1.2, _POLL_MAX_SECONDS)
        process.signal(signal.SIGKILL)
        await process.wait()
        raise DeploymentFailure(
            f"The scoring server was not ready within {self._config.start_seconds:g} s; its last words: "
            f"{last_words(self._log.tail).rstrip('.')}; make its load quicker, or raise start_seconds."
        )

    async def _watch(self, process: ChildProcess, socket: Path) -> NoReturn:
        config, failures = self._config, 0
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(config.health_interval_seconds):
                    await process.wait()
                raise await self._ended(process, "ended")
            # Any whole answer since the last check proves life better than another request could.
            fresh = time.monotonic() - self._upstream.last_answer < config.health_interval_seconds
            if fresh or await ping(socket, config.health_timeout_seconds):
                failures = 0
                continue
            failures += 1
            if failures >= config.health_failures and process.running:
                self._upstream.down(1)
                process.signal(signal.SIGKILL)
                await process.wait()
                raise DeploymentFailure(
                    f"The scoring server did not answer {failures} health checks and was killed; see its log."
                )

    async def _ended(self, process: ChildProcess, what: str) -> DeploymentFailure:
        code = await process.wait()
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit status {code}"
        return DeploymentFailure(
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
