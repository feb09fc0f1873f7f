"""Outlives the model host by an instant: when its pipe to the host closes, kills the process groups it was told of.

PR_SET_PDEATHSIG reaches a scoring server, not the worker processes that the server made; this reaches them all.
Standard library only; run as a file: `python -I -S guardian.py`. Reads lines `+PGID` and `-PGID`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys


def main() -> None:
    """Read until the host's end of the pipe is closed, by whatever end the host came to."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    groups: set[int] = set()
    for line in sys.stdin:
        (groups.add if line.startswith("+") else groups.discard)(int(line[1:]))
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
