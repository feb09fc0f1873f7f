"""Processes that outlived their parent, and how to end them.

When a process is killed with SIGKILL, its children live on: they hold its port, or go on with its work beside the
one that takes its place. They keep its process group and its session, so a note of the two numbers finds them
again. (Their environment would not: `setproctitle`, which Airflow uses, writes over it.) Standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

_PATIENCE_SECONDS = 5.0
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class Group:
    """A process group of one session of one boot; the numbers mean nothing after the next."""

    group: int
    session: int
    boot: str

    @classmethod
    def own(cls) -> Self:
        """This process's group."""
        return cls(os.getpgrp(), os.getsid(0), _BOOT.read_text().strip())

    @classmethod
    def noted(cls, note: Path) -> Self | None:
        """The group that a note tells of, if it is from this boot."""
        try:
            found = cls(**json.loads(note.read_text()))
        except (FileNotFoundError, ValueError, TypeError):
            return None
        return found if found.boot == _BOOT.read_text().strip() else None

    def note(self, path: Path) -> None:
        """Write the note."""
        path.write_text(json.dumps(asdict(self)))

    def members(self, *, whole_session: bool = False) -> list[int]:
        """Living processes of the group, or of its whole session."""
        found = []
        for entry in os.scandir("/proc"):
            if entry.name.isdecimal():
                with contextlib.suppress(OSError, ValueError):  # it ended meanwhile
                    if self._holds(Path(entry.path, "stat").read_text(), whole_session=whole_session):
                        found.append(int(entry.name))
        return found

    def _holds(self, stat: str, *, whole_session: bool) -> bool:
        # proc(5): after the name, which may hold anything, come state, parent, group, session.
        state, _, group, session = stat.rpartition(")")[2].split()[:4]
        return state != "Z" and int(session) == self.session and (whole_session or int(group) == self.group)

    def end(self, *, whole_session: bool = False) -> int:
        """End the members, politely at first; return how many there were. The caller's own session is spared."""
        whole_session = whole_session and self.session != os.getsid(0)
        pids = self.members(whole_session=whole_session)
        count = len(pids)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        _signal(pids, signal.SIGTERM)
        while pids := self.members(whole_session=whole_session):
            if time.monotonic() > deadline:
                _signal(pids, signal.SIGKILL)
            time.sleep(0.05)
        return count


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
