"""The host's files: state that is whole at every moment, the admin token, and the lock that keeps a second host out."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from .config import Config
from .records import EndpointRecord

# sun_path holds 108 bytes; the sockets' names take up to 32 of them.
_SOCKET_DIR_BYTES = 74


def deployment_folder(root: Path, endpoint: str, deployment: str) -> Path:
    """A deployment's own folder under `root`; neither name can hold the separator."""
    return root / f"{endpoint}~{deployment}"


def write_atomic(path: Path, text: str, mode: int = 0o600) -> None:
    """Write a file so that a reader, and a crash, finds the old text or the new, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Make a rename or removal within `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Store:
    """The folder that is the host's memory.

    Args:
        home: the folder; made (0700) if missing.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self.endpoints = home / "endpoints"
        self.models = home / "models"
        self.logs = home / "logs"
        self.work = home / "work"
        self._lock: IO[str] | None = None
        # One thread: writes to the same file happen in the order in which they were asked for.
        self._writer = ThreadPoolExecutor(1, "store")

    def open(self) -> None:
        """Make the folders and take the lock.

        Raises:
            SystemExit: another host has this home, or it cannot be written.
        """
        try:
            for folder in (self.home, self.endpoints, self.models, self.logs, self.work):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = (self.home / "host.lock").open("a+", encoding="utf-8")
        except OSError as error:
            raise SystemExit(
                f"The home {self.home} cannot be used ({error.strerror}); give --home a folder this user can write."
            ) from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.seek(0)
            raise SystemExit(
                f"Another model host (pid {self._lock.read().strip() or 'unknown'}) already uses {self.home}; "
                "stop it, or give this one another --home."
            ) from None
        self._lock.truncate(0)
        self._lock.write(f"{os.getpid()}\n")
        self._lock.flush()

    def sockets(self) -> Path:
        """An empty folder (0700) for the scoring servers' sockets, with a path short enough for one."""
        folder = self.home / "run"
        if len(os.fsencode(folder)) > _SOCKET_DIR_BYTES:
            digest = hashlib.sha256(os.fsencode(self.home)).hexdigest()[:16]
            folder = Path(tempfile.gettempdir()) / f"slipway-{os.getuid()}-{digest}"
        if folder.is_symlink() or (folder.exists() and folder.stat().st_uid != os.getuid()):
            raise SystemExit(f"{folder} belongs to someone else; remove it, or give --home a shorter path.")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        return folder

    def load(self) -> list[EndpointRecord]:
        """All endpoints on disk.

        Raises:
            SystemExit: a file was changed by something else than this program.
        """
        records = []
        for path in sorted(self.endpoints.glob("*.json")):
            try:
                records.append(EndpointRecord.model_validate_json(path.read_bytes()))
            except (ValidationError, OSError) as error:
                raise SystemExit(f"{path} is no state of an endpoint; restore or remove it ({error}).") from error
        for leftover in self.endpoints.glob(".*"):
            leftover.unlink()
        return records

    async def save(self, record: EndpointRecord) -> None:
        """Write an endpoint's state; on disk when this returns."""
        text = record.model_dump_json(indent=1)
        path = self.endpoints / f"{record.name}.json"
        await asyncio.get_running_loop().run_in_executor(self._writer, write_atomic, path, text)

    async def remove(self, name: str) -> None:
        """Forget an endpoint."""

        def unlink() -> None:
            (self.endpoints / f"{name}.json").unlink(missing_ok=True)
            sync_folder(self.endpoints)

        await asyncio.get_running_loop().run_in_executor(self._writer, unlink)

    def announce(self, url: str, admin_url: str) -> None:
        """Say in `host.json` where this host listens, for whoever started it."""
        text = json.dumps({"pid": os.getpid(), "url": url, "admin_url": admin_url})
        write_atomic(self.home / "host.json", text, 0o644)

    def close(self) -> None:
        """Finish writing and let another host have the home."""
        self._writer.shutdown()
        (self.home / "host.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()


def admin_token(config: Config) -> str:
    """The admin API's token: from the environment, else from its file, which is made if missing.

    Raises:
        SystemExit: the file can be read by others, or is empty.
    """
    if config.admin_token is not None:
        return config.admin_token
    path = config.token_file
    if not path.exists():
        write_atomic(path, secrets.token_urlsafe(32) + "\n")
    if path.stat().st_mode & 0o077:
        raise SystemExit(f"{path} can be read by other users; run `chmod 600` on it.")
    token = path.read_text(encoding="utf-8").strip()
    if len(token) < 16:
        raise SystemExit(f"The token in {path} is shorter than 16 characters; remove the file to have one made.")
    return token
