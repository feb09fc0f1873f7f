"""Tell how far Spark is, in lines for a log: stages, tasks, rows."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

__all__ = ["MARK", "Counted", "Progress", "announce", "say"]

MARK = "SLIPWAY-APPLICATION "
"""Begins the one line that is for the operator and not for people: JSON with `application` and `ui`."""

_PAUSE_SECONDS = 2.0
_GRACE_SECONDS = 15.0


def announce(spark: SparkSession) -> dict[str, str | None]:
    """Print and return the application's id and the address of its pages."""
    if hasattr(spark, "_jsparkSession"):
        context = spark.sparkContext
        known: dict[str, str | None] = {"application": context.applicationId, "ui": context.uiWebUrl}
    else:
        known = {"application": spark.conf.get("spark.app.id", None), "ui": None}
    say(MARK + json.dumps(known))
    return known


def say(line: str) -> None:
    """Print one line of the job's log."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Counted:
    """Rows that tasks count themselves, where Spark sees none of them; `Progress` tells them while it is open.

    Only a driver of this process has accumulators: for a Connect session there are none, and rows are told at the end.
    """

    _open: Counted | None = None

    def __init__(self, spark: SparkSession) -> None:
        classic = hasattr(spark, "_jsparkSession")
        self.accumulators = [spark.sparkContext.accumulator(0) for _ in range(2)] if classic else []

    def __enter__(self) -> Self:
        Counted._open = self
        return self

    def __exit__(self, *_: object) -> None:
        Counted._open = None

    @classmethod
    def current(cls) -> tuple[int, int] | None:
        """Rows read and rows written by the tasks that are over; None where nobody counts."""
        counted = cls._open
        if counted is None or not counted.accumulators:
            return None
        came, written = counted.accumulators
        return came.value, written.value


class Progress:
    """While it is open, prints a line whenever something has moved, and ends the job if its owner has gone.

    Args:
        spark: the session.
        owner: process on this host that waits for the job; None if there is none.
    """

    def __init__(self, spark: SparkSession, owner: int | None) -> None:
        self._spark = spark
        self._owner = owner
        self._over = threading.Event()
        self._last = ""
        self._thread = threading.Thread(target=self._follow, daemon=True)

    def __enter__(self) -> Self:
        if not hasattr(self._spark, "_jsparkSession"):
            self._spark.registerProgressHandler(self._remote)  # type: ignore[arg-type]
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()

    def _follow(self) -> None:
        while not self._over.wait(_PAUSE_SECONDS):
            if self._owner is not None and not Path(f"/proc/{self._owner}").exists():
                say("The task that waited for this job has gone: the job ends.")
                # As if it were asked to: a Connect server is told to stop the query, and what is staged is removed.
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(_GRACE_SECONDS)
                os._exit(1)
            if hasattr(self._spark, "_jsparkSession"):
                for stage in self._active():
                    rows = Counted.current() or (stage["inputRecords"], stage["outputRecords"])
                    self._tell(stage["stageId"], stage["numCompleteTasks"], stage["numTasks"], *rows)

    def _active(self) -> list[dict[str, Any]]:
        """The running stages, by the driver's own REST API (https://spark.apache.org/docs/latest/monitoring.html)."""
        context = self._spark.sparkContext
        if not context.uiWebUrl:
            return []
        address = f"{context.uiWebUrl}/api/v1/applications/{context.applicationId}/stages?status=active"
        try:
            with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310  # the driver's own page
                return list(json.load(answer))
        except (OSError, ValueError):
            return []

    def _tell(self, stage: int, done: int, tasks: int, rows_in: int, rows_out: int) -> None:
        line = f"Stage {stage}: {done} of {tasks} tasks, {rows_in:,} rows read, {rows_out:,} written."
        if line != self._last:
            self._last = line
            say(line)

    def _remote(self, stages: Any, inflight_tasks: int, operation_id: str, done: bool) -> None:  # noqa: ARG002
        now = time.monotonic()
        for stage in stages or []:
            if not done and now - getattr(self, "_told", 0.0) > _PAUSE_SECONDS:
                self._told = now
                say(f"Stage {stage.stage_id}: {stage.num_completed_tasks} of {stage.num_tasks} tasks.")
