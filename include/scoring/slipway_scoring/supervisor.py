"""Keeps the worker processes of one server: starts them, replaces those that crash or hang, drains them at SIGTERM.

It imports nothing heavy and has one thread, so forking is safe and costs little, and it stays small. Granian's own
supervisor is not used because it has no eye for a hung worker, gives up on a worker that crashes twice in a row, and
closes its sockets with connections still in their queues.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass

from slipway_scoring import sockets
from slipway_scoring.scoreboard import READY, STARTING, Scoreboard

LOAD_FAILED = 3
"""The exit status of a worker whose model cannot be loaded: starting it again would not help."""
_TICK = 0.25
_LONGEST_BACKOFF = 30.0
_FORGIVEN_AFTER = 60.0
_PR_SET_PDEATHSIG = 1
_WATCHED = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT)

Work = Callable[[int], int]


@dataclass(slots=True)
class _Worker:
    """One place in the row of workers; `pid` is 0 while it waits for its next start."""

    number: int
    pid: int = 0
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0


class Supervisor:
    """Runs `work(number)` in a process for each of the scoreboard's workers.

    Args:
        work: what a worker does; returns its exit status.
        listener: the shared listening socket; closed here at the end.
        board: heartbeats of the workers.
        hang_limit: seconds of silence after which a ready worker is killed.
        drain_time: most seconds that workers get to finish at the end.
    """

    def __init__(
        self, work: Work, listener: socket.socket, board: Scoreboard, *, hang_limit: float, drain_time: float
    ) -> None:
        self._work = work
        self._listener = listener
        self._board = board
        self._hang_limit = hang_limit
        self._drain_time = drain_time
        self._workers = [_Worker(number) for number in range(board.workers)]
        self._was_ready = False

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT; returns the exit status."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
        for worker in self._workers:
            self._start(worker)
        while True:
            arrived = signal.sigtimedwait(_WATCHED, _TICK)
            if arrived is not None and arrived.si_signo != signal.SIGCHLD:
                return self._drain()
            self._was_ready = self._was_ready or any(
                self._board.state(worker.number) == READY for worker in self._workers
            )
            status = self._reap()
            if status is not None:
                self._kill_all()
                return status
            self._watch()

    def _start(self, worker: _Worker) -> None:
        self._board.beat(worker.number, STARTING)
        worker.started = time.monotonic()
        parent = os.getpid()
        worker.pid = os.fork()
        if worker.pid == 0:
            os._exit(_run_child(self._work, worker.number, parent))

    def _reap(self) -> int | None:
        """Note the ended workers and plan their restart; an exit status if there is no use in going on."""
        for worker in self._workers:
            if not worker.pid:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            code = os.waitstatus_to_exitcode(status)
            if code == LOAD_FAILED and not self._was_ready:
                return LOAD_FAILED
            now = time.monotonic()
            worker.failures = 0 if now - worker.started > _FORGIVEN_AFTER else worker.failures
            pause = min(0.1 * 2**worker.failures, _LONGEST_BACKOFF) if worker.failures else 0.0
            worker.failures += 1
            worker.pid, worker.start_at = 0, now + pause
            _say(f"Worker {worker.number} ended unexpectedly with status {code}; it starts again in {pause:g} s.")
        return None

    def _watch(self) -> None:
        now = time.monotonic()
        for worker in self._workers:
            if not worker.pid:
                if now >= worker.start_at:
                    self._start(worker)
            elif (
                self._board.state(worker.number) != STARTING
                and self._board.silent_for(worker.number) > self._hang_limit
            ):
                _say(f"Worker {worker.number} has not reacted for {self._hang_limit:g} s and is killed.")
                self._board.beat(worker.number, STARTING)
                os.kill(worker.pid, signal.SIGKILL)

    def _drain(self) -> int:
        """Accept nothing new, let the workers finish, then end."""
        deadline = time.monotonic() + self._drain_time
        sockets.refuse_new(self._listener)
        while sockets.waiting(self._listener) and time.monotonic() < deadline:
            time.sleep(0.005)
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM)
        status = 0
        for worker in self._workers:
            status = max(status, self._wait(worker, deadline + 2 * _TICK))
        self._listener.close()
        return status

    def _wait(self, worker: _Worker, deadline: float) -> int:
        while worker.pid:
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                code = os.waitstatus_to_exitcode(status)
                # A worker that was still loading its model has nothing to drain, and dies of the signal.
                return 0 if code == -signal.SIGTERM else abs(code)
            if time.monotonic() > deadline:
                _say(f"Worker {worker.number} had not finished when the drain time was over; it is killed.")
                os.kill(worker.pid, signal.SIGKILL)
                os.waitpid(worker.pid, 0)
                return 1
            signal.sigtimedwait((signal.SIGCHLD,), 0.05)
        return 0

    def _kill_all(self) -> None:
        for worker in self._workers:
            if worker.pid:
                with contextlib.suppress(ProcessLookupError, ChildProcessError):
                    os.kill(worker.pid, signal.SIGKILL)
                    os.waitpid(worker.pid, 0)
        self._listener.close()


def _run_child(work: Work, number: int, parent: int) -> int:
    """In the forked process. It dies with its supervisor, so that no orphan keeps the port."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        return 1
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _WATCHED)
    try:
        return work(number)
    except BaseException:  # noqa: BLE001 -- nothing of the child may run on in the parent's code
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


def _say(message: str) -> None:
    sys.stderr.write(f'{{"level":"error","message":"{message}"}}\n')
    sys.stderr.flush()
