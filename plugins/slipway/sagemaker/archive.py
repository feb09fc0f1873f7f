"""`model.tar.gz`: the same files always give the same bytes, so that their digest can name them."""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
from pathlib import Path
from typing import Protocol

__all__ = ["archive_digest", "write_archive"]

# Most of a model's size is numbers, which pack no better for more work.
_LEVEL = 1


class Target(Protocol):
    """What an archive is written to."""

    def write(self, data: bytes, /) -> object:
        """Take some bytes."""
        ...

    def flush(self) -> object:
        """Hold nothing back."""
        ...


def write_archive(folder: Path, target: Target) -> None:
    """Write the files below `folder` to a stream, as a gzipped tar with no names, times or owners of this machine."""
    with (
        gzip.GzipFile(fileobj=target, mode="wb", compresslevel=_LEVEL, mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as archive,
    ):
        for path in sorted(folder.rglob("*"), key=lambda p: p.relative_to(folder).as_posix()):
            if path.is_dir():
                continue
            entry = tarfile.TarInfo(path.relative_to(folder).as_posix())
            entry.size = path.stat().st_size
            entry.mode = 0o755 if os.access(path, os.X_OK) else 0o644
            with path.open("rb") as file:
                archive.addfile(entry, file)


def archive_digest(folder: Path) -> str:
    """Return the sha256 of what `write_archive` writes, in hex; nothing is kept."""
    sink = _Digest()
    write_archive(folder, sink)
    return sink.sha256.hexdigest()


class _Digest:
    """A stream that only digests what is written to it."""

    def __init__(self) -> None:
        self.sha256 = hashlib.sha256()

    def write(self, data: bytes) -> int:
        """Digest some bytes."""
        self.sha256.update(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing is held back."""
