"""Unpacks an archive's files and hashes them in the same pass, in constant memory."""

from __future__ import annotations

import errno
import hashlib
import os
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, BinaryIO

from slipway.bundles.archive import Member
from slipway.bundles.wording import shown
from slipway.errors import Unavailable, UserError

__all__ = ["FileRecord", "bundle_digest", "inflate", "record_of", "unpack"]

_CHUNK = 1024**2
_THREADS = min(4, os.cpu_count() or 1)
_UNSHARED: AbstractContextManager[None] = nullcontext()


@dataclass(frozen=True, slots=True, order=True)
class FileRecord:
    """One file of a normalised bundle."""

    path: str  # relative, with '/'
    size: int  # bytes
    sha256: str  # hex


def unpack(file: BinaryIO, plan: Mapping[str, Member], target: Path) -> list[FileRecord]:
    """Write each member of `plan` to `target` under its key, and return what was written, sorted by path.

    :param file: the archive that `archive.read_members` has checked.
    :param target: an empty folder that nobody else writes to.
    :raises UserError: if data do not fit the size or checksum that the archive promises for them.
    :raises Unavailable: if the disk is full.
    """
    with ThreadPoolExecutor(_THREADS) as hashers, ThreadPoolExecutor(_THREADS) as workers:
        unpacking = _Unpacking(file, hashers)
        members = sorted(plan.items(), key=lambda item: item[1].start)
        futures = [workers.submit(unpacking.unpack_one, target, path, member) for path, member in members]
        try:
            return sorted(future.result() for future in futures)
        except BaseException as error:
            unpacking.stopped = True
            workers.shutdown(cancel_futures=True)
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise Unavailable(
                    "The disk of the bundle store is full: free some space there, and run the import again."
                ) from error
            raise


class _Unpacking:
    """One archive being unpacked by several threads: inflating, hashing and writing all let go of the GIL."""

    def __init__(self, file: BinaryIO, hashers: ThreadPoolExecutor) -> None:
        self._file = file
        self._lock = Lock()
        self._hashers = hashers
        self.stopped = False

    def unpack_one(self, target: Path, path: str, member: Member) -> FileRecord:
        """Write one file; it is hashed beside that, so that a single large file uses two cores as well."""
        destination = target / path
        destination.parent.mkdir(parents=True, exist_ok=True)
        digest = hashlib.sha256()
        hashing: Future[None] | None = None
        with destination.open("xb", buffering=0) as out:
            for chunk in inflate(self._file, member, self._lock):
                if self.stopped:
                    break
                _write_all(out, chunk)
                if hashing is not None:
                    hashing.result()
                hashing = self._hashers.submit(digest.update, chunk)
        if hashing is not None:
            hashing.result()
        return FileRecord(path, member.size, digest.hexdigest())


def inflate(
    file: BinaryIO, member: Member, lock: AbstractContextManager[Any] = _UNSHARED
) -> Generator[bytes, None, None]:
    """Yield the data of `member` in chunks of at most 1 MiB, never more than its promised size.

    :param lock: is held while `file` is read, for threads that share it.
    :raises UserError: if they are damaged, or do not match size and CRC-32 of the directory.
    """
    packed = _packed(file, member, lock)
    pieces = _deflated(packed, member) if member.method == zipfile.ZIP_DEFLATED else _stored(packed, member)
    crc = 0
    left = member.size
    try:
        for piece in pieces:
            left -= len(piece)
            if left < 0:
                raise _damaged(member)
            crc = zlib.crc32(piece, crc)
            yield piece
    except zlib.error as error:
        raise _damaged(member) from error
    if left or crc != member.crc:
        raise _damaged(member)


def bundle_digest(records: list[FileRecord]) -> str:
    """Return the identity of a bundle: sha256 over the sorted lines `<sha256>  <path>` of its files."""
    lines = sorted(f"{record.sha256}  {record.path}\n" for record in records)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def record_of(file: Path, path: str) -> FileRecord:
    """Return the record of a local file that stands at `path` in a bundle."""
    with file.open("rb", buffering=0) as data:
        return FileRecord(path, file.stat().st_size, hashlib.file_digest(data, "sha256").hexdigest())


def _stored(packed: Iterator[bytes], member: Member) -> Iterator[bytes]:
    if member.packed != member.size:
        raise _damaged(member)
    yield from packed


def _deflated(packed: Iterator[bytes], member: Member) -> Iterator[bytes]:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    for chunk in packed:
        if inflater.eof:
            raise _damaged(member)
        while chunk:
            yield inflater.decompress(chunk, _CHUNK)
            chunk = inflater.unconsumed_tail  # noqa: PLW2901  # what did not fit into one output chunk
    if not inflater.eof:
        yield inflater.flush()
    if not inflater.eof or inflater.unused_data:
        raise _damaged(member)


def _packed(file: BinaryIO, member: Member, lock: AbstractContextManager[Any]) -> Iterator[bytes]:
    left = member.packed
    while left:
        with lock:
            file.seek(member.start + member.packed - left)
            chunk = file.read(min(_CHUNK, left))
        if not chunk:
            raise _damaged(member)
        left -= len(chunk)
        yield chunk


def _write_all(out: BinaryIO, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(out.fileno(), view) :]


def _damaged(member: Member) -> UserError:
    return UserError(
        f"File {shown(member.path)} is damaged, its data do not match the size and checksum in the archive: "
        "zip and upload it again."
    )
