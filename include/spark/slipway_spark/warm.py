"""Sessions of a Spark Connect server that are used again: Python workers, and the models in them, belong to a session.

Each session is one job's at a time, by a lock on a file in the temporary folder; the next job finds in that file which
session it is and which settings to undo. A job that dies gives its lock up with its life.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

__all__ = ["Lease", "leased"]

_MOST = 16


class Lease:
    """A session that is this job's for now.

    Args:
        file: the locked file.
    """

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        try:
            known: dict[str, Any] = json.loads(file.read())
            self.session, self.settings = str(uuid.UUID(known["session"])), list(map(str, known["settings"]))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.renew()

    def renew(self) -> None:
        """Begin a new session: there was none, or the server has closed it."""
        self.session, self.settings = str(uuid.uuid4()), []
        self.remember([])

    def remember(self, settings: list[str]) -> None:
        """Leave to the next job which settings this one makes."""
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps({"session": self.session, "settings": settings}))
        self._file.flush()


@contextmanager
def leased(remote: str) -> Iterator[Lease | None]:
    """Take a session of the server at `remote` that no other job uses; None when all are taken."""
    folder = Path(tempfile.gettempdir()) / f"slipway-sessions-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        yield None  # somebody else made it: their files are not to be trusted
        return
    name = hashlib.sha256(remote.encode()).hexdigest()[:16]
    for number in range(_MOST):
        with (folder / f"{name}-{number}").open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                continue
            file.seek(0)
            yield Lease(file)
            return
    yield None
