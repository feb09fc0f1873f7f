"""A folder of the bundle store: on a local disk, or in anything that Airflow's ObjectStoragePath writes to.

Keys are relative paths with '/'. Writing a key replaces it as a whole: a reader sees the old bytes or the new.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from slipway.bundles.source import local_path, object_path

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

__all__ = ["Folder", "LocalFolder", "RemoteFolder", "open_folder"]


class Folder(Protocol):
    """What the store needs of a place that holds it."""

    local: Path | None  # where it is, if that is a local disk

    def read(self, key: str) -> bytes | None:
        """Return the bytes of `key`; None if there is no such key."""
        ...

    def write(self, key: str, data: bytes) -> None:
        """Set the bytes of `key`, in one step."""
        ...

    def names(self, key: str = "") -> list[str]:
        """Return the names directly below `key`, sorted; none if there is nothing."""
        ...

    def newest(self, key: str) -> dict[str, float]:
        """Return the names of the folders directly below `key`, each with when a file in it last came or changed.

        Times are seconds since 1970; one call, however many there are.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove `key` and all below it; nothing happens if it is not there."""
        ...

    def put(self, source: Path, key: str) -> None:
        """Copy the local folder `source` to `key`, file by file."""
        ...

    def get(self, key: str, target: Path) -> None:
        """Copy all below `key` to the local folder `target`."""
        ...

    def copy(self, source: str, target: str) -> None:
        """Copy all below the key `source` to `target` within the store."""
        ...


def open_folder(uri: str) -> Folder:
    """Return the folder that `uri` names; it is made when the first key is written.

    :raises UserError: if Airflow cannot read that kind of URI.
    """
    path = local_path(uri)
    return LocalFolder(path) if path is not None else RemoteFolder(object_path(uri))


class LocalFolder:
    """On a local disk."""

    def __init__(self, root: Path) -> None:
        self.local: Path | None = root
        self._root = root

    def read(self, key: str) -> bytes | None:
        """See `Folder`."""
        try:
            return (self._root / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def write(self, key: str, data: bytes) -> None:
        """See `Folder`. Survives a loss of power."""
        target = self._root / key
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=target.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
            Path(name).chmod(0o644)
            Path(name).replace(target)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        sync_folder(target.parent)

    def names(self, key: str = "") -> list[str]:
        """See `Folder`."""
        try:
            return sorted(entry.name for entry in (self._root / key).iterdir() if not entry.name.startswith(".new-"))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def newest(self, key: str) -> dict[str, float]:
        """See `Folder`. A file comes by a rename, which changes its folder's time."""
        try:
            with os.scandir(self._root / key) as entries:
                return {entry.name: entry.stat().st_mtime for entry in entries if entry.is_dir()}
        except (FileNotFoundError, NotADirectoryError):
            return {}

    def remove(self, key: str) -> None:
        """See `Folder`."""
        target = self._root / key
        while target.is_dir() and not target.is_symlink():
            # Another process may be removing the same folder: what it takes away under our hands is gone as well.
            with suppress(FileNotFoundError):
                shutil.rmtree(target)
        target.unlink(missing_ok=True)

    def put(self, source: Path, key: str) -> None:
        """See `Folder`."""
        shutil.copytree(source, self._root / key, dirs_exist_ok=True)

    def get(self, key: str, target: Path) -> None:
        """See `Folder`."""
        shutil.copytree(self._root / key, target, dirs_exist_ok=True)

    def copy(self, source: str, target: str) -> None:
        """See `Folder`."""
        self.put(self._root / source, target)


class RemoteFolder:
    """In an object store. An object appears as a whole when its upload is complete."""

    def __init__(self, root: ObjectStoragePath) -> None:
        self.local: Path | None = None
        self._root = root

    def read(self, key: str) -> bytes | None:
        """See `Folder`."""
        try:
            # Whole, past caches: another machine may have written it just now.
            data: bytes = self._root.fs.cat_file(self._path(key))
        except (FileNotFoundError, IsADirectoryError):
            return None
        return data

    def write(self, key: str, data: bytes) -> None:
        """See `Folder`."""
        self._root.fs.pipe_file(self._path(key), data)

    def names(self, key: str = "") -> list[str]:
        """See `Folder`."""
        with suppress(FileNotFoundError, NotADirectoryError):
            self._root.fs.invalidate_cache()
            base = self._path(key).rstrip("/")
            listed = self._root.fs.ls(base, detail=False)
            return sorted({str(path).rstrip("/").rpartition("/")[2] for path in listed} - {base.rpartition("/")[2]})
        return []

    def newest(self, key: str) -> dict[str, float]:
        """See `Folder`. Object stores call an object's time by different names."""
        self._root.fs.invalidate_cache()
        base = self._path(key).strip("/") + "/"
        found: dict[str, float] = {}
        with suppress(FileNotFoundError, NotADirectoryError):
            for path, details in self._root.fs.find(self._path(key), detail=True).items():
                name, slash, _ = str(path).strip("/").removeprefix(base).partition("/")
                changed = next((details[k] for k in ("LastModified", "last_modified", "mtime") if details.get(k)), 0.0)
                if slash:
                    seconds = changed.timestamp() if isinstance(changed, datetime) else float(changed)
                    found[name] = max(found.get(name, 0.0), seconds)
        return found

    def remove(self, key: str) -> None:
        """See `Folder`."""
        with suppress(FileNotFoundError):
            self._root.fs.invalidate_cache()
            self._root.fs.rm(self._path(key), recursive=True)

    def put(self, source: Path, key: str) -> None:
        """See `Folder`."""
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            target = self._path(f"{key}/{file.relative_to(source).as_posix()}")
            self._root.fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            self._root.fs.put_file(str(file), target)

    def get(self, key: str, target: Path) -> None:
        """See `Folder`."""
        for name in self._below(key):
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            self._root.fs.get_file(self._path(f"{key}/{name}"), str(file))

    def copy(self, source: str, target: str) -> None:
        """See `Folder`. The object store does it itself where it can."""
        for name in self._below(source):
            to = self._path(f"{target}/{name}")
            self._root.fs.makedirs(to.rpartition("/")[0], exist_ok=True)
            self._root.fs.copy(self._path(f"{source}/{name}"), to)

    def _below(self, key: str) -> Iterator[str]:
        self._root.fs.invalidate_cache()
        base = self._path(key).strip("/") + "/"
        for path in self._root.fs.find(self._path(key)):
            yield str(path).strip("/").removeprefix(base)

    def _path(self, key: str) -> str:
        return str((self._root / key).path) if key else str(self._root.path)


def sync_folder(path: Path) -> None:
    """Make what was renamed or created in the folder `path` survive a loss of power."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
