"""Removes environments and model folders that no endpoint uses and nobody has touched for long."""

from __future__ import annotations

import fcntl
import logging
import re
import secrets
import shutil
import time
from pathlib import Path

_log = logging.getLogger(__name__)

_DIGEST = re.compile(r"[0-9a-f]{64}")
_TRASH = ".trash-"
# The protocol of `slipway_scoring environment`: the marker's mtime says when an environment was last asked for, and
# whoever makes one holds the lock file.
_MARKER = ".slipway-complete"


def collect_environments(root: Path, used: set[str], age: float) -> list[str]:
    """Remove the environments under `root` that are not `used` and older than `age` seconds; their digests.

    Those that somebody is making (their lock is held) are left; so is one that is asked for in the last moment.
    """
    removed = []
    for folder in _candidates(root, used, age, _MARKER):
        with (root / f".{folder.name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            if _remove(folder, age, _MARKER):
                removed.append(folder.name)
    _empty_trash(root)
    return removed


def collect_models(root: Path, used: set[str], age: float) -> list[str]:
    """Remove the model folders under `root` whose name is not `used` and that are older than `age` seconds."""
    removed = [folder.name for folder in _candidates(root, used, age, "") if _remove(folder, age, "")]
    # What a fetch left behind when the host was killed within it.
    for folder in root.glob(".*"):
        if _age(folder) > age:
            shutil.rmtree(folder, ignore_errors=True)
    return removed


def _candidates(root: Path, used: set[str], age: float, marker: str) -> list[Path]:
    if not root.is_dir():
        return []
    folders = [path for path in root.iterdir() if _DIGEST.fullmatch(path.name) and path.name not in used]
    return [folder for folder in folders if folder.is_dir() and _age(folder / marker) > age]


def _age(path: Path) -> float:
    """Seconds since `path` (or, if it is missing, its folder) was last touched."""
    for place in (path, path.parent):
        try:
            return time.time() - place.stat().st_mtime
        except FileNotFoundError:
            continue
    return 0.0


def _remove(folder: Path, age: float, marker: str) -> bool:
    trash = folder.with_name(f"{_TRASH}{folder.name}.{secrets.token_hex(4)}")
    folder.rename(trash)
    if _age(trash / marker) <= age:
        trash.rename(folder)  # somebody asked for it between the look and the move
        return False
    shutil.rmtree(trash, ignore_errors=True)
    _log.info("removed %s, unused for over %g s", folder, age)
    return True


def _empty_trash(root: Path) -> None:
    for leftover in root.glob(f"{_TRASH}*"):
        shutil.rmtree(leftover, ignore_errors=True)
