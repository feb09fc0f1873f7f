"""A progress line on standard error: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time

_WIDTH = 30
_TERMINAL_PAUSE = 0.2
_LOG_PAUSE = 10.0


class Progress:
    """Shows how much of `total` bytes is done, and how fast.

    Args:
        total: input bytes.
        show: false keeps silent.
    """

    def __init__(self, total: int, *, show: bool) -> None:
        self._total = max(total, 1)
        self._show = show
        self._terminal = sys.stderr.isatty()
        self._started = self._shown = time.monotonic()

    def update(self, done: int, rows: int, rejected: int) -> None:
        """Say how far it is, if it is time to say so."""
        now = time.monotonic()
        if self._show and now - self._shown >= (_TERMINAL_PAUSE if self._terminal else _LOG_PAUSE):
            self._shown = now
            self._write(done, rows, rejected)

    def close(self, done: int, rows: int, rejected: int) -> None:
        """The last line."""
        if self._show:
            self._write(done, rows, rejected)
            if self._terminal:
                sys.stderr.write("\n")

    def _write(self, done: int, rows: int, rejected: int) -> None:
        share = min(done / self._total, 1.0)
        elapsed = time.monotonic() - self._started
        left = elapsed / share - elapsed if share else 0.0
        bar = "#" * int(share * _WIDTH)
        text = (
            f"[{bar:<{_WIDTH}}] {share:4.0%}  {rows:,} rows, {rejected:,} rejected, "
            f"{rows / max(elapsed, 1e-9):,.0f} rows/s, {left:.0f} s left"
        )
        sys.stderr.write(f"\r{text}\x1b[K" if self._terminal else f"{text}\n")
        sys.stderr.flush()
