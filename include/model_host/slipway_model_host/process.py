"""Child processes: each in a process group of its own that never outlives the host."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from .logs import LogFile

_HERE = Path(__file__).parent
_READ_BYTES = 64 * 1024


class Guard:
    """The host's side of the guardian: tells it which groups to kill when the host is gone."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start the guardian, and start it again should it ever die."""
        await self._spawn()
        self._watch = asyncio.create_task(self._keep())

    async def _spawn(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-S", str(_HERE / "guardian.py"),
            stdin=asyncio.subprocess.PIPE, start_new_session=True, env={}, cwd="/",
        )  # fmt: skip
        self._tell("".join(f"+{group}\n" for group in self._groups))

    async def _keep(self) -> None:
        while self._process is not None:
            await self._process.wait()
            await asyncio.sleep(0.1)
            await self._spawn()

    def add(self, group: int) -> None:
        """Watch over a process group."""
        self._groups.add(group)
        self._tell(f"+{group}\n")

    def remove(self, group: int) -> None:
        """The group has ended."""
        self._groups.discard(group)
        self._tell(f"-{group}\n")

    def _tell(self, text: str) -> None:
        # A dead guardian is replaced by `_keep`, which tells the new one of every group.
        if self._process is not None and self._process.stdin is not None and self._process.returncode is None:
            self._process.stdin.write(text.encode())

    async def stop(self) -> None:
        """End the guardian: nothing is left to guard."""
        if self._watch is not None:
            self._watch.cancel()
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            await self._process.wait()


class ChildProcess:
    """A running child; everything it prints goes to its log."""

    def __init__(self, process: asyncio.subprocess.Process, log: LogFile, guard: Guard) -> None:
        self._process = process
        self._log = log
        self._guard = guard
        self.pid = process.pid
        guard.add(process.pid)
        self._end = asyncio.create_task(self._run())

    @classmethod
    async def start(
        cls,
        command: Sequence[str],
        env: Mapping[str, str],
        cwd: Path,
        log: LogFile,
        guard: Guard,
        *,
        memory: int | None = None,
        open_files: int | None = None,
    ) -> ChildProcess:
        """Start `command` (its first word a path) in a new session, with the limits given and a closed stdin.

        Raises:
            OSError: the command cannot be run.
        """
        launcher = [sys.executable, "-I", "-S", str(_HERE / "launch.py")]
        limits = [str(os.getpid()), str(memory or 0), str(open_files or 0)]

        async def spawn() -> ChildProcess:
            process = await asyncio.create_subprocess_exec(
                *launcher, *limits, *command, env=dict(env), cwd=cwd, start_new_session=True,
                stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            return cls(process, log, guard)

        spawning = asyncio.create_task(spawn())
        try:
            return await asyncio.shield(spawning)
        except asyncio.CancelledError:
            await (await spawning).stop(0)  # nobody else knows of it
            raise

    async def _run(self) -> int:
        copy = asyncio.create_task(self._copy())
        code = await self._process.wait()
        # Whatever the leader left behind would hold its memory, its socket and our pipe.
        self.signal(signal.SIGKILL)
        await asyncio.wait([copy], timeout=5)
        copy.cancel()
        self._guard.remove(self.pid)
        return code

    async def _copy(self) -> None:
        output = self._process.stdout
        while output is not None and (data := await output.read(_READ_BYTES)):
            self._log.write(data)

    async def wait(self) -> int:
        """The exit status (negative: the signal), once the whole group is gone."""
        return await asyncio.shield(self._end)

    @property
    def running(self) -> bool:
        """Whether the process has not yet ended."""
        return self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def stop(self, grace: float) -> int:
        """SIGTERM to the process, and after `grace` seconds SIGKILL to its group; the exit status."""
        if self.running:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        done, _ = await asyncio.wait([self._end], timeout=grace)
        if not done:
            self.signal(signal.SIGKILL)
        return await self.wait()
