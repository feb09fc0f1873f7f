"""How a Spark Python worker and the process of a model talk: length-prefixed frames over two pipes.

A request is `<Q length>` and an Arrow IPC stream of one batch, the model's input columns. An answer is
`<B status> <Q length>` and, by status, an Arrow IPC stream of one batch or one sentence in UTF-8.
Standard library only, so that both sides can use it whatever their environments hold.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

SCORED = 0
BROKEN = 1
"""The model cannot be loaded or used at all: the sentence says why, and the process ends."""

REASON = "reason"
"""First column of an answer: why the row is rejected, or null."""

_LENGTH = struct.Struct("<Q")
_ANSWER = struct.Struct("<BQ")


def write_request(pipe: BinaryIO, body: memoryview) -> None:
    """Send one batch."""
    pipe.write(_LENGTH.pack(len(body)))
    pipe.write(body)
    pipe.flush()


def read_request(pipe: BinaryIO) -> bytearray | None:
    """Return the next batch, or None when the other side has gone."""
    head = _read(pipe, _LENGTH.size)
    return None if head is None else _read(pipe, _LENGTH.unpack(head)[0])


def write_answer(pipe: BinaryIO, status: int, body: memoryview) -> None:
    """Send the answer to one batch."""
    pipe.write(_ANSWER.pack(status, len(body)))
    pipe.write(body)
    pipe.flush()


def read_answer(pipe: BinaryIO) -> tuple[int, bytearray] | None:
    """Return status and body of the next answer, or None when the other side has gone."""
    head = _read(pipe, _ANSWER.size)
    if head is None:
        return None
    status, length = _ANSWER.unpack(head)
    body = _read(pipe, length)
    return None if body is None else (status, body)


def _read(pipe: BinaryIO, size: int) -> bytearray | None:
    # One buffer, filled in place: pipes give at most 64 KiB at a time, and joining pieces would copy them again.
    body = bytearray(size)
    view = memoryview(body)
    filled = 0
    while filled < size:
        count = pipe.readinto(view[filled:])  # type: ignore[attr-defined]
        if not count:
            return None
        filled += count
    return body
