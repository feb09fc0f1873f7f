"""Publish an output in one step, so that a reader sees all of it or nothing, and a re-run replaces only its own.

    <output>/execution=<id>/part-….parquet, _slipway.json     what readers see: one directory an execution
    <output>/_slipway/<id>/<attempt>/                         where the job writes; hidden from Spark and friends

The last step is a rename. Where the directory exists from an earlier try, Linux exchanges the two at once
(renameat2(2), RENAME_EXCHANGE). A driver that was killed leaves only its staging directory, which the next try of the
same execution removes before it starts: should the first driver still live, its rename then finds nothing to rename.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import re
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote

from slipway_spark.errors import JobError, WrongInput
from slipway_spark.places import local

__all__ = ["Output", "execution_directory"]

PREFIX = "execution="
STAGING = "_slipway"
MANIFEST = "_slipway.json"

_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


def execution_directory(execution: str) -> str:
    """Return the directory's name for an execution; ids with characters that paths do not like get a digest."""
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", execution)
    return safe if safe == execution else f"{safe}-{hashlib.sha256(execution.encode()).hexdigest()[:8]}"


class Files(Protocol):
    """The few calls on a file system that a commit needs; paths are below the output's root."""

    def names(self, folder: str) -> list[str]: ...
    def remove(self, folder: str) -> None: ...
    def write(self, file: str, content: bytes) -> None: ...
    def replace(self, source: str, target: str) -> None: ...


class Output:
    """One output of one execution.

    Args:
        root: URI or path of the output.
        execution: id of the execution.
        attempt: name of this try.
        mode: `append` keeps other executions' outputs, `overwrite` removes them after publishing, `error` refuses to
            start when there are any.
    """

    def __init__(self, root: str, execution: str, attempt: str, mode: str = "append") -> None:
        self.root = root.rstrip("/")
        self.mode = mode
        self._own = execution_directory(execution)
        self._attempt = attempt
        self._files = _files(root)

    @property
    def staging(self) -> str:
        """Where Spark is to write."""
        return f"{self.root}/{self._staging}"

    @property
    def published(self) -> str:
        """Where readers find this execution's output."""
        return f"{self.root}/{PREFIX}{self._own}"

    @property
    def _staging(self) -> str:
        return f"{STAGING}/{self._own}/{self._attempt}"

    def prepare(self) -> None:
        """Remove what earlier tries of this execution left unpublished.

        Raises:
            WrongInput: mode `error`, and another execution has published here.
        """
        if self.mode == "error" and self._others():
            raise WrongInput(
                f"{self.root} holds the output of another execution ({self._others()[0]}): give the write node mode "
                "append or overwrite, or another path."
            )
        self._files.remove(f"{STAGING}/{self._own}")

    def publish(self, manifest: dict[str, Any]) -> None:
        """Put the staged output in place of this execution's last one.

        Raises:
            JobError: the staging directory has gone, because another try of this execution has taken over.
        """
        if not self._files.names(self._staging):
            raise JobError(f"Another try of this execution has removed {self.staging}: this one publishes nothing.")
        self._files.write(f"{self._staging}/{MANIFEST}", json.dumps(manifest, indent=2).encode())
        self._files.replace(self._staging, f"{PREFIX}{self._own}")
        if self.mode == "overwrite":
            for other in self._others():
                self._files.remove(other)
        self._files.remove(f"{STAGING}/{self._own}")

    def withdraw(self) -> None:
        """Remove this execution's output, staged and published: a re-run has nothing for it."""
        self._files.remove(f"{PREFIX}{self._own}")
        self._files.remove(f"{STAGING}/{self._own}")

    def discard(self) -> None:
        """Remove what this try has staged; what is published stays."""
        self._files.remove(self._staging)

    def _others(self) -> list[str]:
        return [n for n in self._files.names("") if n.startswith(PREFIX) and n != f"{PREFIX}{self._own}"]


def _files(root: str) -> Files:
    folder = local(root)
    return _RemoteFiles(root) if folder is None else _LocalFiles(folder)


class _LocalFiles:
    """Files of this machine, or of a share that is mounted on every node."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def names(self, folder: str) -> list[str]:
        path = self._root / folder
        return sorted(entry.name for entry in path.iterdir()) if path.is_dir() else []

    def remove(self, folder: str) -> None:
        path = self._root / folder
        if path.is_dir():
            # Out of sight first: removing file by file would leave half an output for readers.
            hidden = self._root / STAGING / f"removed-{os.getpid()}-{path.name}"
            hidden.parent.mkdir(parents=True, exist_ok=True)
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
        self._tidy()

    def write(self, file: str, content: bytes) -> None:
        with (self._root / file).open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    def replace(self, source: str, target: str) -> None:
        old, new = self._root / target, self._root / source
        if not old.exists():
            new.rename(old)
        elif _exchange(new, old):
            self.remove(source)
        else:
            # A file system without exchange: for an instant there is neither, never a mixture.
            self.remove(target)
            new.rename(old)

    def _tidy(self) -> None:
        for folder in (*self._root.glob(f"{STAGING}/*"), self._root / STAGING):
            try:
                folder.rmdir()
            except OSError:
                continue  # in use, or not there


def _exchange(one: Path, other: Path) -> bool:
    """Swap two directories at once; False where the system cannot."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError):
        return False
    return bool(renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE) == 0)


class _RemoteFiles:
    """HDFS, S3, ABFS or GCS through pyarrow.

    On a plain object store a rename copies object by object. So an output's manifest goes first there and comes last:
    where it is, all is.
    """

    def __init__(self, root: str) -> None:
        from pyarrow import fs

        # Arrow reads `%20` in a URI, and `?`; Spark, which writes there, does not.
        self._fs, self._root = fs.FileSystem.from_uri(quote(re.sub(r"^s3[an]:", "s3:", root), safe="/:@[]"))
        self._selector = fs.FileSelector

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}".rstrip("/")

    def names(self, folder: str) -> list[str]:
        found = self._fs.get_file_info(self._selector(self._path(folder), allow_not_found=True))
        return sorted(info.base_name for info in found)

    def remove(self, folder: str) -> None:
        for delete, name in ((self._fs.delete_file, f"{folder}/{MANIFEST}"), (self._fs.delete_dir, folder)):
            with suppress(FileNotFoundError):
                delete(self._path(name))

    def write(self, file: str, content: bytes) -> None:
        with self._fs.open_output_stream(self._path(file)) as stream:
            stream.write(content)

    def replace(self, source: str, target: str) -> None:
        self.remove(target)
        try:
            self._fs.move(self._path(source), self._path(target))
        except (OSError, NotImplementedError):  # an object store has no directories to move
            self._copy(source, target)

    def _copy(self, source: str, target: str) -> None:
        root = self._path(source)
        files = [i.path for i in self._fs.get_file_info(self._selector(root, recursive=True)) if i.is_file]
        try:
            for path in sorted(files, key=lambda p: p.endswith(f"/{MANIFEST}")):
                self._fs.copy_file(path, f"{self._path(target)}{path.removeprefix(root)}")
        except BaseException:
            with suppress(OSError):  # the store may be away: then the missing manifest says that this is no output
                self.remove(target)
            raise
        self._fs.delete_dir(root)
