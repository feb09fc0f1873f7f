"""Removes what no endpoint uses and nobody has touched for long: environments, models, logs, working folders."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import re
import secrets
import shutil
import time
from pathlib import Path

from .environment import MARKER

_log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TRASH = ".trash-"


def collect_environments(root: Path, used: set[str], age: float) -> list[str]:
    """Remove the environments under `root` that are not `used` and older than `age` seconds; returns their digests.

    Those that somebody is making (their lock is held) are left; so is one that is asked for at the last moment.
    Others may share the folder: those in use here are marked as such for them.
    """
    if not root.is_dir():
        return []
    for digest in used:
        with contextlib.suppress(FileNotFoundError):
            os.utime(root / digest / MARKER)
    removed = []
    for folder in root.iterdir():
        if not _DIGEST.fullmatch(folder.name) or folder.name in used or _age(folder / MARKER) <= age:
            continue
        # Whoever makes an environment holds this lock.
        with (root / f".{folder.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _remove(folder, age, MARKER):
                removed.append(folder.name)
    _remove_leftovers(root, _TRASH, 0)
    return removed


def collect_folders(root: Path, used: set[str], age: float) -> list[str]:
    """Remove the folders under `root` whose name is not `used` and that are older than `age` seconds; their names."""
    removed = [
        folder.name
        for folder in root.iterdir()
        if folder.is_dir() and folder.name[0] != "." and folder.name not in used and _remove(folder, age, "")
    ]
    # What was half removed, or half fetched, when the host was killed.
    _remove_leftovers(root, ".", age)
    return removed


def _age(path: Path) -> float:
    """Seconds since `path` (or, if it is missing, its folder) was last touched."""
    for place in (path, path.parent):
        with contextlib.suppress(FileNotFoundError):
            return time.time() - place.stat().st_mtime
    return 0.0


def _remove(folder: Path, age: float, marker: str) -> bool:
    if _age(folder / marker) <= age:
        return False
    trash = folder.with_name(f"{_TRASH}{folder.name}.{secrets.token_hex(4)}")
    folder.rename(trash)
    if _age(trash / marker) <= age:
        trash.rename(folder)  # somebody asked for it between the look and the move
        return False
    shutil.rmtree(trash, ignore_errors=True)
    _log.info("removed %s, unused for over %g s", folder, age)
    return True


def _remove_leftovers(root: Path, prefix: str, age: float) -> None:
    for leftover in root.glob(f"{prefix}*"):
        if leftover.is_dir() and _age(leftover) > age:
            shutil.rmtree(leftover, ignore_errors=True)
