"""Writes zip archives byte by byte, also such as no tool would write: every field of every header can lie."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

LOCAL = struct.Struct("<4s5H3I2H")
CENTRAL = struct.Struct("<4s6H3I5H2I")
END = struct.Struct("<4s4H2IH")
UTF8 = 0x0800


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry. What is None follows from the data; what is given is written as it is."""

    name: bytes
    data: bytes = b""
    deflate: bool = True
    method: int | None = None
    flags: int = UTF8
    mode: int = 0o100644
    size: int | None = None
    packed_size: int | None = None
    crc: int | None = None
    local_name: bytes | None = None
    offset: int | None = None  # of the local header, in place of the true one
    packed: bytes | None = None


def raw_zip(entries: Sequence[Entry]) -> bytes:
    """Return an archive of `entries`, without ZIP64."""
    out = io.BytesIO()
    directory = []
    for entry in entries:
        packed = entry.packed
        if packed is None:
            packed = _deflated(entry.data) if entry.deflate else entry.data
        method = (
            entry.method
            if entry.method is not None
            else (zipfile.ZIP_DEFLATED if entry.deflate else zipfile.ZIP_STORED)
        )
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        packed_size = len(packed) if entry.packed_size is None else entry.packed_size
        size = len(entry.data) if entry.size is None else entry.size
        offset = out.tell()
        name = entry.name if entry.local_name is None else entry.local_name
        out.write(LOCAL.pack(b"PK\x03\x04", 20, entry.flags, method, 0, 0x21, crc, packed_size, size, len(name), 0))
        out.write(name + packed)
        directory.append(
            CENTRAL.pack(
                b"PK\x01\x02", 0x0314, 20, entry.flags, method, 0, 0x21, crc, packed_size, size, len(entry.name),
                0, 0, 0, 0, entry.mode << 16, offset if entry.offset is None else entry.offset,
            ) + entry.name
        )  # fmt: skip
    start = out.tell()
    out.writelines(directory)
    out.write(END.pack(b"PK\x05\x06", 0, 0, len(entries), len(entries), out.tell() - start, start, 0))
    return out.getvalue()


def plain_zip(
    files: Mapping[str, bytes], *, method: int = zipfile.ZIP_DEFLATED, date: tuple[int, ...] = (2020, 1, 1, 0, 0, 0)
) -> bytes:
    """Return an archive of `files` as Python's own zipfile writes it."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, date)  # type: ignore[arg-type]
            info.compress_type = method
            archive.writestr(info, data)
    return out.getvalue()


def entries_of(files: Mapping[str, bytes]) -> list[Entry]:
    """Return honest entries for `files`."""
    return [Entry(name=name.encode(), data=data) for name, data in files.items()]


def _deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()
