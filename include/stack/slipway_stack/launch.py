"""Becomes one process of the stack: `python -S launch.py RUN_FOLDER NAME`, started by the supervisor alone.

Before that it ends what an earlier process of that name left behind: when a parent is killed with SIGKILL,
its children live on, hold its port or go on with its work, and the restarted one would never come up. The
command and its environment, with the keys in it, are read from a private file, so that they show in no
process list. Standard library only, and little of it: this runs at each start and restart.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

_PATIENCE_SECONDS = 5.0


def leftovers(group: int, marker: str) -> list[int]:
    """Processes of a process group that carry `marker` (`NAME=value`) in their environment."""
    found = []
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        pid = int(entry.name)
        try:
            if os.getpgid(pid) == group and marker.encode() in Path(entry.path, "environ").read_bytes().split(b"\0"):
                found.append(pid)
        except OSError:  # it ended meanwhile, or is somebody else's
            continue
    return found


def end_leftovers(group_file: Path, marker: str) -> int:
    """End what is left of the process group that `group_file` names; return how many processes that were."""
    try:
        group = int(group_file.read_text())
    except (FileNotFoundError, ValueError):
        return 0
    count = len(pids := leftovers(group, marker))
    deadline = time.monotonic() + _PATIENCE_SECONDS
    signal_all(pids, signal.SIGTERM)
    while pids := leftovers(group, marker):
        if time.monotonic() > deadline:
            signal_all(pids, signal.SIGKILL)
        time.sleep(0.05)
    group_file.unlink(missing_ok=True)
    return count


def signal_all(pids: list[int], number: int) -> None:
    """Send a signal to processes, some of which may have ended."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def main(folder: Path, name: str) -> None:
    """Clear the place, remember the own process group, and become the command."""
    program = json.loads((folder / f"{name}.json").read_text())
    group_file = folder / f"{name}.group"
    count = end_leftovers(group_file, program["marker"])
    if count:
        print(f"{name}: ended {count} processes that an earlier one left behind", flush=True)
    # The supervisor makes each process the leader of a group of its own, and exec keeps both.
    group_file.write_text(str(os.getpgrp()))
    os.chdir(program["directory"])
    os.execvpe(program["command"][0], program["command"], program["environment"])  # noqa: S606  # no shell is meant


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
