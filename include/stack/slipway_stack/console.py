"""Progress for people: on a terminal and in a log, each line with the time since the start."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Console:
    """Prints what happens; a line that changes in place appears only on a terminal."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self._terminal = sys.stdout.isatty()
        self._passing = False
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A terminal that cannot show a tick is no reason to stop.
            sys.stdout.reconfigure(errors="replace")

    def line(self, text: str = "") -> None:
        """A line that stays."""
        self._clear()
        print(text, flush=True)

    def done(self, text: str) -> None:
        """A line for something finished, with the time since the command began."""
        self.line(f"[{self._elapsed()}] ✓ {text}")

    def passing(self, text: str) -> None:
        """What is going on now: replaced by the next line on a terminal, left out of a log."""
        if self._terminal:
            self._clear()
            print(f"[{self._elapsed()}] … {text}", end="", flush=True)
            self._passing = True

    @contextmanager
    def step(self, doing: str) -> Iterator[None]:
        """Announces a step at once, so that a log shows what is waited for, and how long it took at its end."""
        began = time.monotonic()
        self.line(f"[{self._elapsed()}] {doing} …")
        yield
        self.done(f"{doing} ({time.monotonic() - began:.1f} s)")

    def _elapsed(self) -> str:
        return f"{time.monotonic() - self._start:6.1f} s"

    def _clear(self) -> None:
        if self._passing:
            print("\r\x1b[K", end="")
            self._passing = False
