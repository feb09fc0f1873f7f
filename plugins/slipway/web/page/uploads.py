"""Uploads on their way to import_bundle: streamed, chunk by chunk, into a folder of the bundle store.

    <store>/.uploads/<time>-<random>/<name>.zip

The bundle store is what API server and workers share in every installation, so an import can read what was put there.
The name is the file's own, because import_bundle names a bundle after its file. import_bundle removes an upload once
the bundle is stored; what was never imported is removed by a later upload.
"""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from anyio import CancelScope, to_thread
from fastapi import HTTPException

from slipway import settings
from slipway.bundles.source import local_path, object_path
from slipway.bundles.uploads import AREA, collect
from slipway.bundles.wording import size
from slipway.errors import SlipwayError

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

__all__ = ["receive"]

_CHUNK = 1024**2
Value = TypeVar("Value")
_log = logging.getLogger(__name__)
_ZIP = b"PK"
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


async def receive(body: AsyncIterator[bytes], filename: str, declared: int | None) -> tuple[str, int]:
    """Write an upload and return its URI and size.

    Memory use does not depend on the size: at most one chunk of a MiB waits for the disk, and while it does, nothing
    more is read from the client.

    :param declared: what the client says that it sends, in bytes.
    :raises HTTPException: 413 if it is too large, 415 if it is no zip, 507 if the disk is full.
    """
    limit = settings.max_archive_bytes()
    if declared is not None and declared > limit:
        raise _too_large(limit)
    store, key = settings.bundle_store(), f"{int(time.time())}-{secrets.token_hex(8)}"
    target: _Target | None = None
    received, waiting = 0, bytearray()
    complete = False
    try:
        await _in_store(collect, store)
        target = await _in_store(_Target, store, key, _name(filename))
        async for part in body:
            received += len(part)
            waiting += part
            if received > limit:
                raise _too_large(limit)
            if received - len(part) < len(_ZIP) <= received and not waiting.startswith(_ZIP):
                raise HTTPException(415, f"'{_name(filename)}' is not a zip archive: zip the bundle's folder first.")
            if len(waiting) >= _CHUNK:
                await _in_store(target.write, bytes(waiting))
                waiting.clear()
        if received < len(_ZIP):
            raise HTTPException(415, "The file is empty: choose the zip of a bundle.")
        await _in_store(target.write, bytes(waiting))
        await _in_store(target.close)
        complete = True
    except OSError as e:
        raise _not_taken(e.strerror or type(e).__name__) from None
    finally:
        if target is not None and not complete:
            with CancelScope(shield=True):  # the client may have gone away, which cancels this
                await to_thread.run_sync(target.discard)
    return target.uri, received


async def _in_store(function: Callable[..., Value], *arguments: object) -> Value:
    """Call what reads or writes the bundle store, in a thread, and return what it returns.

    :raises OSError: from a disk.
    :raises SlipwayError: if its configuration is wrong.
    :raises HTTPException: 507 for whatever an object store's client raises.
    """
    try:
        return await to_thread.run_sync(function, *arguments)
    except (OSError, SlipwayError):
        raise
    except Exception as e:  # noqa: BLE001  # each store's client has its own
        _log.warning("The bundle store fails", exc_info=True)
        raise _not_taken(type(e).__name__) from None


def _not_taken(why: str) -> HTTPException:
    return HTTPException(507, f"The bundle store cannot take the file ({why}).")


class _Target:
    """A file of the uploads' area, on a local disk or in an object store; made at the first write."""

    def __init__(self, store: str, key: str, name: str) -> None:
        base = f"{store.rstrip('/')}/{AREA}/{key}"
        local = local_path(base)
        self.uri = f"{base}/{name}"
        self._path: Path | ObjectStoragePath = (local if local is not None else object_path(base)) / name
        self._file: BinaryIO | None = None

    def write(self, data: bytes) -> None:
        """Append."""
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("wb")
        assert self._file is not None  # noqa: S101  # for mypy
        self._file.write(data)

    def close(self) -> None:
        """Complete the file."""
        if self._file is not None:
            self._file.close()

    def discard(self) -> None:
        """Remove what there is of it; called also when the client has gone away."""
        # Whatever an object store's client raises: what stays is removed after a day.
        with suppress(Exception):
            self.close()
        with suppress(Exception):
            self._path.unlink(missing_ok=True)
            self._path.parent.rmdir()


def _name(filename: str) -> str:
    stem = filename.replace("\\", "/").rpartition("/")[2]
    stem = stem[:-4] if stem.lower().endswith(".zip") else stem
    return f"{_UNSAFE.sub('-', stem).strip('-.')[:63] or 'bundle'}.zip"


def _too_large(limit: int) -> HTTPException:
    return HTTPException(
        413, f"The file is larger than {size(limit)}, the most that [slipway] max_archive_bytes allows."
    )
