"""Memory that the supervisor and its workers share: heartbeats and metrics, one row of doubles a worker.

Each worker writes only its own row, so nothing needs a lock; a worker that takes a dead one's place counts on from
where that one stopped, so counters never fall.
"""

from __future__ import annotations

import mmap
import time
from typing import TypeAlias

STATE, HEARTBEAT, FIRST_FREE = range(3)
STARTING, READY, BROKEN, DRAINING = range(4)
WIDTH = 4096
"""Doubles in a row; metrics.py lays them out and checks that they fit."""


Row: TypeAlias = "memoryview[float]"


class Scoreboard:
    """Made by the supervisor before it forks."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._memory = mmap.mmap(-1, workers * WIDTH * 8)
        self._view = memoryview(self._memory).cast("d")

    def row(self, worker: int) -> Row:
        """Worker number `worker`'s doubles."""
        return self._view[worker * WIDTH : (worker + 1) * WIDTH]

    def beat(self, worker: int, state: int) -> None:
        """Say that the worker is alive now, and its state."""
        row = self.row(worker)
        row[STATE] = state
        row[HEARTBEAT] = time.monotonic()

    def state(self, worker: int) -> int:
        """The worker's state."""
        return int(self.row(worker)[STATE])

    def silent_for(self, worker: int) -> float:
        """Seconds since the worker's last beat."""
        return time.monotonic() - self.row(worker)[HEARTBEAT]

    def total(self, slot: int) -> float:
        """The sum of one slot over all workers."""
        return sum(self._view[worker * WIDTH + slot] for worker in range(self.workers))
