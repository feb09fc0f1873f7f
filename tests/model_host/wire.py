"""A client of raw bytes: what is sent is just what the test says, what comes back is read by h11."""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass
from typing import Any

import h11


@dataclass
class Answer:
    """One answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, as JSON."""
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, port: int, timeout: float = 10) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self._rest = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> Client:
        """Write bytes."""
        self.socket.sendall(data)
        return self

    def read(self, method: str = "GET") -> Answer:
        """The next answer; ConnectionError if the connection ends within or before it."""
        parser = h11.Connection(h11.CLIENT)
        parser.send(h11.Request(method=method, target="/", headers=[("Host", "x")]))
        parser.send(h11.EndOfMessage())
        parser.receive_data(self._rest) if self._rest else None
        head: h11.Response | None = None
        body = b""
        while True:
            try:
                event = parser.next_event()
            except h11.RemoteProtocolError as error:
                raise ConnectionError(str(error)) from None
            if event is h11.NEED_DATA:
                data = self.socket.recv(65536)
                parser.receive_data(data)
            elif isinstance(event, h11.Response):
                head = event
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                self._rest = parser.trailing_data[0]
                return Answer(head.status_code, {k.decode(): v.decode() for k, v in head.headers}, body)
            elif isinstance(event, h11.ConnectionClosed):
                raise ConnectionError("closed")

    def ask(self, target: str, method: str = "GET", headers: str = "", body: bytes | None = None) -> Answer:
        """Send a well-formed request and read its answer."""
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: test\r\n{headers}{length}\r\n"
        return self.send(head.encode("latin-1") + (body or b"")).read(method)

    def closed(self) -> bool:
        """Whether the other side ends the connection (within the timeout) with nothing more to say."""
        try:
            return not self._rest and self.socket.recv(1) == b""
        except ConnectionError:
            return True
        except TimeoutError:
            return False


def once(port: int, target: str, method: str = "GET", headers: str = "", body: bytes | None = None) -> Answer:
    """One request on a connection of its own."""
    with Client(port) as client:
        return client.ask(target, method, headers, body)
