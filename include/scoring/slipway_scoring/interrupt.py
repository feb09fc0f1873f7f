"""Break off a function on the main thread when its time is up.

A prediction that runs on the event loop would otherwise stop the loop for as long as it likes, and no 504 could leave.
The alarm signal reaches Python code and sleeping or waiting calls; a call that computes in C is broken off when it
returns. What never returns is the supervisor's to end.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")


class Interrupted(BaseException):
    """Raised inside the function whose time is up."""


class Alarm:
    """Owns the process's alarm signal. On another than the main thread it cannot break off, and does not try."""

    def __init__(self) -> None:
        self._armed = False
        self._usable = threading.current_thread() is threading.main_thread()
        if self._usable:
            signal.signal(signal.SIGALRM, self._ring)

    def run(self, seconds: float, work: Callable[[], Result]) -> Result:
        """`work()`, for at most `seconds`.

        Raises:
            Interrupted: the time was up.
        """
        if not self._usable:
            return work()
        self._armed = True
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.001))
        try:
            return work()
        finally:
            # First this, then the timer: an alarm between the two finds nothing to break off.
            self._armed = False
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ring(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 -- a signal handler takes both
        if self._armed:
            self._armed = False
            raise Interrupted
