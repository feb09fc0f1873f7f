"""A scoring server's output: kept in rotated files, with the last lines at hand for an error message."""

from __future__ import annotations

import contextlib
import json
import re
from collections import deque
from pathlib import Path

TAIL_LINES = 40
_LINE_BYTES = 4096
_ERROR = re.compile(r"^(?:[\w.]+\.)?\w*(?:Error|Exception|Interrupt|Exit|Warning)\b")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class LogFile:
    """An append-only log of at most `files` + 1 files of about `limit` bytes each: x.log, x.log.1, …"""

    def __init__(self, path: Path, limit: int, files: int) -> None:
        self._path = path
        self._limit = limit
        self._files = files
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = path.open("ab", buffering=0)
        self._size = self._file.tell()
        self._partial = b""
        self.tail: deque[str] = deque(maxlen=TAIL_LINES)

    def write(self, data: bytes) -> None:
        """Append output as it comes; a line that has no end is cut for the tail, not for the file."""
        # A full disk must not stop the server, which would block on a pipe that nobody reads.
        with contextlib.suppress(OSError):
            self._file.write(data)
        *lines, self._partial = (self._partial + data).split(b"\n")
        for line in lines:
            self._remember(line)
        if len(self._partial) > _LINE_BYTES:
            self._remember(self._partial)
            self._partial = b""
        self._size += len(data)
        if self._size > self._limit:
            with contextlib.suppress(OSError):
                self._rotate()

    def note(self, text: str) -> None:
        """Write a line of the host's own."""
        self.write(f"[model host] {text}\n".encode())

    def close(self) -> None:
        """Keep what came without a line end, and close the file."""
        if self._partial:
            self._remember(self._partial)
            self._partial = b""
        self._file.close()

    def _remember(self, line: bytes) -> None:
        text = _COLOUR.sub("", line[:_LINE_BYTES].decode("utf-8", "replace")).rstrip()
        if text.strip():
            self.tail.append(text)

    def _rotate(self) -> None:
        # Renamed while open, so that there is a file to write to whatever fails.
        for number in range(self._files, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            if newer.exists():
                newer.replace(older)
        self._file.close()
        self._file = self._path.open("ab", buffering=0)
        self._size = 0


def last_words(lines: deque[str] | list[str]) -> str:
    """The line that most likely says why a process ended: the last that names an exception, else the last."""
    texts = [text for line in lines if not line.startswith("[model host]") and (text := _message(line))]
    for text in reversed(texts):
        if _ERROR.match(text):
            return text[:500]
    return texts[-1][:500] if texts else "it wrote nothing to its log"


def _message(line: str) -> str:
    """The text of a line, also of one in JSON."""
    if line.startswith("{"):
        try:
            document = json.loads(line)
        except ValueError:
            return line.strip()
        if isinstance(document, dict):
            for key in ("error", "exception", "message", "msg"):
                if isinstance(document.get(key), str):
                    return str(document[key]).strip().splitlines()[-1]
    return line.strip()
