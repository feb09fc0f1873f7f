"""Opens a bundle's archive wherever it is: a local file in place, anything else streamed once to a private file."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO
from urllib.parse import unquote, urlsplit

from slipway.bundles.wording import one_line, shown, size
from slipway.errors import UserError

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

__all__ = ["default_name", "local_path", "object_path", "open_source"]

_CHUNK = 1024**2


def local_path(uri: str) -> Path | None:
    """Return the path that a `file:` URI or a plain path names, or None if `uri` is of another scheme."""
    parsed = urlsplit(uri)
    if parsed.scheme not in {"", "file"} or parsed.netloc not in {"", "localhost"}:
        return None
    literal = Path(uri if not parsed.scheme else uri.partition("://")[2].removeprefix(parsed.netloc) or parsed.path)
    # `Path.as_uri` escapes what `fsspec` leaves alone: take whichever of the two spellings is there.
    return literal if "%" not in uri or literal.exists() else Path(unquote(str(literal)))


def object_path(uri: str) -> ObjectStoragePath:
    """Return Airflow's path object for `uri`.

    :raises UserError: if the scheme is unknown, or its library is not installed.
    """
    from airflow.sdk import ObjectStoragePath

    try:
        path = ObjectStoragePath(uri)
        _ = path.fs
    except ImportError as error:
        raise UserError(
            f"Location {shown(_public(uri))} cannot be read here because a library is missing "
            f"({one_line(str(error), 200)}): install it, or use another location."
        ) from error
    except ValueError as error:
        raise UserError(
            f"Location {shown(_public(uri))} has a scheme that Airflow cannot read: use file, s3 or another whose "
            "provider "
            "is installed."
        ) from error
    return path


@contextmanager
def open_source(uri: str, max_bytes: int) -> Iterator[BinaryIO]:
    """Open the file at `uri` for reading from any position, in constant memory.

    :param uri: any URI of Airflow's ObjectStoragePath, or an absolute local path.
    :param max_bytes: largest size taken; of a remote file not a byte more is read.
    :raises UserError: if there is no such file, it may not be read, or it is too large.
    """
    local = local_path(uri)
    if local is not None:
        with _open_local(local, uri, max_bytes) as file:
            yield file
        return
    with tempfile.TemporaryFile(prefix="slipway-bundle-") as file:  # has no name, so nothing is left after a kill
        _fetch(object_path(uri), uri, file, max_bytes)
        file.seek(0)
        yield file


def default_name(uri: str) -> str:
    """Return the last part of a URI without `.zip`, for a bundle that is given no name."""
    last = unquote(urlsplit(uri).path.rstrip("/")).rpartition("/")[2]
    return last[:-4] if last.lower().endswith(".zip") else last


def _open_local(path: Path, uri: str, max_bytes: int) -> BinaryIO:
    if not path.is_absolute():
        raise UserError(
            f"Location {shown(uri)} is a relative path: give an absolute path or a URI such as file:///data/model.zip."
        )
    try:
        # Without O_NONBLOCK a named pipe would hold the task for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise _missing(uri) from error
    except PermissionError as error:
        raise _forbidden(uri) from error
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f"Location {shown(uri)} is not a file: give the address of one zip archive.")
        if status.st_size > max_bytes:
            raise _too_large(uri, max_bytes)
        return os.fdopen(descriptor, "rb", buffering=0)
    except BaseException:
        os.close(descriptor)
        raise


def _fetch(path: ObjectStoragePath, uri: str, target: BinaryIO, max_bytes: int) -> None:
    try:
        with path.open("rb") as remote:
            received = 0
            while chunk := remote.read(_CHUNK):
                received += len(chunk)
                if received > max_bytes:
                    raise _too_large(uri, max_bytes)
                target.write(chunk)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as error:
        raise _missing(uri) from error
    except PermissionError as error:
        raise _forbidden(uri) from error


def _missing(uri: str) -> UserError:
    return UserError(f"There is no file at {shown(_public(uri))}: check the address of the bundle.")


def _forbidden(uri: str) -> UserError:
    return UserError(
        f"Airflow may not read {shown(_public(uri))}: grant it read access, or name a connection in the URI."
    )


def _too_large(uri: str, max_bytes: int) -> UserError:
    return UserError(
        f"The archive at {shown(_public(uri))} is larger than {size(max_bytes)}, the most that [slipway] "
        "max_archive_bytes allows."
    )


def _public(uri: str) -> str:
    """Return `uri` without its query, where signed URLs carry their secret."""
    return uri.partition("?")[0]
