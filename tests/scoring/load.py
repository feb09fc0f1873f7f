"""A load of clients that keep their connections and note what becomes of every request, on bare sockets.

A request is *lost* if it was sent on a connection that the server had accepted and no answer came back. A refused
connection loses nothing: the client knows at once.
"""

from __future__ import annotations

import json
import socket
import threading
from collections import Counter
from dataclasses import dataclass, field
from typing import Any


def message(path: str, body: Any, port: int) -> bytes:
    """A POST request with a JSON body."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\ncontent-type: application/json\r\n"
    return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data


class Wire:
    """One client connection."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._rest = b""

    def ask(self, request: bytes) -> tuple[int, bytes, bool]:
        """Send, and read one answer: status, body, whether the server closes. ConnectionError if there is none."""
        self._socket.sendall(request)
        while b"\r\n\r\n" not in self._rest:
            self._receive()
        head, _, rest = self._rest.partition(b"\r\n\r\n")
        lines = head.decode().lower().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines[1:])
        length = int(headers.get("content-length", "0"))
        self._rest = rest
        while len(self._rest) < length:
            self._receive()
        body, self._rest = self._rest[:length], self._rest[length:]
        return int(lines[0].split()[1]), body, headers.get("connection") == "close"

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise ConnectionError("closed without an answer")
        self._rest += data

    def close(self) -> None:
        """Close it."""
        self._socket.close()


@dataclass
class Load:
    """`clients` threads that ask again and again until nobody listens any more, or `stop` is set."""

    port: int
    path: str
    body: Any
    clients: int = 8
    answers: Counter[tuple[int, bytes]] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stop = threading.Event()
        self._request = message(self.path, self.body, self.port)
        self._threads = [threading.Thread(target=self._client) for _ in range(self.clients)]

    def start(self) -> Load:
        """Begin."""
        for thread in self._threads:
            thread.start()
        return self

    def join(self, seconds: float = 60) -> None:
        """Wait for all clients."""
        for thread in self._threads:
            thread.join(seconds)
            assert not thread.is_alive()

    def _client(self) -> None:
        while not self.stop.is_set():
            try:
                wire = Wire(self.port)
            except OSError:
                return
            closing = False
            while not closing and not self.stop.is_set():
                try:
                    status, body, closing = wire.ask(self._request)
                except OSError as error:
                    self.lost.append(repr(error))
                    break
                self.answers[status, body] += 1
            wire.close()
