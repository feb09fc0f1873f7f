"""Make the virtual environment of a model from its lock, once.

The lock's digest names the environment, so every model with the same lock shares it. Standard library only: the model
host runs this file with whatever Python 3.11+ it has. What is on disk decides, never memory, so `kill -9` at any
moment leaves either a complete environment (its marker is there) or a leftover that the next caller replaces.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

MARKER = ".slipway-complete"
_PYTHON_LINE = re.compile(r"^#\s*python:\s*(\d+\.\d+)\s*$", re.MULTILINE)


class EnvironmentMakeError(Exception):
    """One sentence that says why the environment could not be made."""


def lock_digest(lock: Path) -> str:
    """The sha256 (hex) of the lock file's bytes."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def ensure_environment(lock: Path, root: Path, python: str | None = None) -> Path:
    """The complete environment `root/<digest of lock>`, made if it is not there.

    Args:
        lock: a requirements lock with hashes or exact versions, as `uv pip compile` writes it.
        root: the directory that holds all environments.
        python: the interpreter to build on; by default the version that the lock's `# python:` line names.

    Raises:
        EnvironmentMakeError: no lock, no uv, or uv failed.
    """
    try:
        digest = lock_digest(lock)
    except OSError as error:
        raise EnvironmentMakeError(
            f"The lock {lock} cannot be read ({error.strerror}): give --lock a readable requirements lock."
        ) from error
    home = root / digest
    if _is_complete(home):
        return home
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock_file = (root / f".{digest}.lock").open("w")
    except OSError as error:
        raise EnvironmentMakeError(
            f"The environments directory {root} cannot be written ({error.strerror}): give --root a writable one."
        ) from error
    with lock_file:
        fcntl.flock(lock_file, fcntl.LOCK_EX)
        if not _is_complete(home):
            _make(home, lock, python)
    return home


def _is_complete(home: Path) -> bool:
    """Whether the environment is there; marks it as used now, for whoever removes the unused ones."""
    try:
        os.utime(home / MARKER)
    except FileNotFoundError:
        return False
    return True


def _make(home: Path, lock: Path, python: str | None) -> None:
    uv = _find_uv()
    shutil.rmtree(home, ignore_errors=True)
    version = _PYTHON_LINE.search(lock.read_text(encoding="utf-8"))
    interpreter = python or (version.group(1) if version else sys.executable)
    try:
        _run([uv, "venv", "--quiet", "--python", interpreter, str(home)], "create the environment")
        _run(
            [uv, "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--python",
             str(home / "bin" / "python"), "--requirements", str(lock)],
            "install the lock",
        )  # fmt: skip
        marker = home / f"{MARKER}.new"
        with marker.open("w") as file:
            file.write(lock.read_text(encoding="utf-8"))
            file.flush()
            os.fsync(file.fileno())
        marker.rename(home / MARKER)
    except BaseException:
        shutil.rmtree(home, ignore_errors=True)
        raise


def _run(command: list[str], task: str) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())[:600] or f"exit status {done.returncode}"
        raise EnvironmentMakeError(
            f"uv could not {task} ({reason}): check the lock, the network and the free disk, then try again."
        )


def _find_uv() -> str:
    beside = Path(sys.executable).parent / "uv"
    found = os.environ.get("SLIPWAY_UV") or shutil.which("uv") or (str(beside) if beside.is_file() else None)
    if found is None:
        raise EnvironmentMakeError(
            "uv is not installed: environments are made with it, so install it or name it in SLIPWAY_UV."
        )
    return found


def main(arguments: list[str]) -> int:
    """`environment --lock FILE --root DIR [--python EXE]`: print the environment's path; 3 on failure."""
    parser = argparse.ArgumentParser(prog="slipway_scoring environment", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--lock", type=Path, required=True, help="the requirements lock")
    parser.add_argument("--root", type=Path, required=True, help="the directory of all environments")
    parser.add_argument("--python", help="the interpreter to build on (default: the version the lock names)")
    options = parser.parse_args(arguments)
    try:
        home = ensure_environment(options.lock, options.root.absolute(), options.python)
    except EnvironmentMakeError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    sys.stdout.write(f"{home}\n")
    return 0
