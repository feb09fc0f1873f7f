"""Reads a pickle's bytes forward, bounded: what is too long to matter is passed over and never held in memory."""

from __future__ import annotations

import os
from typing import BinaryIO

__all__ = ["PickleStream", "UnreadablePickleError"]

_CHUNK = 256 * 1024
_MAX_LINE = 4096


class UnreadablePickleError(Exception):
    """The bytes are not a pickle that can be followed. The message is a part of a sentence: why."""


class PickleStream:
    """Bytes of a seekable binary file from its present position on, with its own small buffer."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._start = file.tell()  # offset in the file of the buffer's first byte
        self._buffer = b""
        self._at = 0
        self._end = file.seek(0, os.SEEK_END)
        file.seek(self._start)

    @property
    def position(self) -> int:
        """Offset in the file of the next byte."""
        return self._start + self._at

    @property
    def exhausted(self) -> bool:
        """Whether no byte is left."""
        return self.position >= self._end

    def opcode(self) -> int:
        """Return the next byte.

        :raises UnreadablePickleError: at the end of the file.
        """
        if self._at >= len(self._buffer) and not self._fill(1):
            raise UnreadablePickleError("it ends before its STOP")
        value = self._buffer[self._at]
        self._at += 1
        return value

    def take(self, count: int) -> bytes:
        """Return the next `count` bytes, for small counts.

        :raises UnreadablePickleError: if the file ends before.
        """
        if self._at + count > len(self._buffer) and not self._fill(count):
            raise UnreadablePickleError("it ends in the middle of a value")
        self._at += count
        return self._buffer[self._at - count : self._at]

    def skip(self, count: int) -> None:
        """Pass over `count` bytes without reading them.

        :raises UnreadablePickleError: if the file ends before.
        """
        if self.position + count > self._end:
            raise UnreadablePickleError("it ends in the middle of a value")
        if self._at + count <= len(self._buffer):
            self._at += count
        else:
            self.move(self.position + count)

    def move(self, position: int) -> None:
        """Go to an offset of the file."""
        self._start, self._buffer, self._at = position, b"", 0
        self._file.seek(position)

    def line(self) -> bytes | None:
        """Return the bytes up to the next newline, which is passed over; None for a line too long to matter.

        :raises UnreadablePickleError: if there is no newline.
        """
        parts: list[bytes] = []
        length = 0
        while True:
            end = self._buffer.find(b"\n", self._at)
            piece = self._buffer[self._at : end if end >= 0 else None]
            length += len(piece)
            if length <= _MAX_LINE:
                parts.append(piece)
            if end >= 0:
                self._at = end + 1
                return b"".join(parts) if length <= _MAX_LINE else None
            self._at = len(self._buffer)
            if not self._fill(1):
                raise UnreadablePickleError("a line in it has no end")

    def _fill(self, count: int) -> bool:
        """Make at least `count` bytes available; False if the file ends before."""
        rest = self._buffer[self._at :]
        self._start += self._at
        self._at = 0
        self._file.seek(self._start + len(rest))
        parts = [rest]
        available = len(rest)
        while available < count:
            chunk = self._file.read(max(_CHUNK, count - available))
            if not chunk:
                break
            parts.append(chunk)
            available += len(chunk)
        self._buffer = b"".join(parts)
        return available >= count
