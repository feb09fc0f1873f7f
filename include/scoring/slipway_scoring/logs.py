"""One JSON line a request, and the server's own messages in the same form, on standard error.

Lines are gathered and written together a few times a second: a write for each of 20,000 requests a second would cost
more than the predictions do.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from typing import Any, NamedTuple

import orjson

_FLUSH_AT = 256


class Entry(NamedTuple):
    """One answered request."""

    request_id: str
    method: str
    path: str
    status: int
    seconds: float
    rows: int
    error: str | None


class RequestLog:
    """Gathers request lines; `flush` writes them.

    Args:
        identity: fields that every line carries (model, version, worker).
        everything: false logs failed requests alone.
    """

    def __init__(self, identity: dict[str, Any], *, everything: bool) -> None:
        self._tail = b"," + orjson.dumps(identity)[1:] + b"\n"
        self._everything = everything
        self._lines: list[bytes] = []
        self._second = 0
        self._stamp = ""

    def add(self, entry: Entry) -> None:
        """Note one answered request."""
        if not self._everything and entry.status < 400:
            return
        now = time.time()
        if int(now) != self._second:
            self._second = int(now)
            self._stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
        line = {
            "time": f"{self._stamp}.{int(now % 1 * 1000):03}Z",
            "request_id": entry.request_id,
            "method": entry.method,
            "path": entry.path,
            "status": entry.status,
            "ms": round(entry.seconds * 1000, 3),
            "rows": entry.rows,
        }
        if entry.error is not None:
            line["error"] = entry.error
        self._lines.append(orjson.dumps(line)[:-1] + self._tail)
        if len(self._lines) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Write what was gathered."""
        if self._lines:
            lines, self._lines = self._lines, []
            write_all(sys.stderr.fileno(), b"".join(lines))


def write_all(descriptor: int, data: bytes) -> None:
    """Write `data` whole; a reader that went away is no reason to fail requests."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            time.sleep(0.001)
        except OSError:
            return


class JsonFormatter(logging.Formatter):
    """The server's own messages, each one JSON line; a trace goes into the line, never to a client."""

    def __init__(self, identity: dict[str, Any]) -> None:
        super().__init__()
        self._identity = identity

    def format(self, record: logging.LogRecord) -> str:
        """One record as JSON."""
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **self._identity,
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(identity: dict[str, Any]) -> None:
    """Send Python's logging to standard error as JSON lines."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonFormatter(identity))
    logging.basicConfig(handlers=[handler], level=logging.INFO, force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger("_granian").setLevel(logging.WARNING)  # Its comings and goings are told by the worker.
