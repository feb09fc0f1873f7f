"""One client's connection: reads requests (pipelined ones too), answers them one after the other, in order."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from ..errors import HostError
from .exchange import Exchange
from .framing import MAX_HEAD_BYTES, MAX_HEADERS, bad_request, head_too_large
from .wire import CONTINUE

if TYPE_CHECKING:
    from .server import FrontDoor

# asyncio hands over at most this many bytes at once: a head may be that much over its limit before it is seen whole.
_READ_BYTES = 256 * 1024


class ClientConnection(asyncio.Protocol):
    """Only the first request of the queue is at a server; reading stops while others wait behind it."""

    def __init__(self, door: FrontDoor) -> None:
        self.door = door
        self.peer = b"unknown"
        self._transport: asyncio.Transport
        self._parser = httptools.HttpRequestParser(self)
        self._queue: deque[Exchange] = deque()
        self._incoming: Exchange | None = None
        self._head_bytes = 0
        self._unparsed = 0
        self._advancing = False
        self._closing = False
        self._deaf = False
        self._gone = False
        self._blocked = False
        self._reading = True
        self.writable = True
        self.last_read = time.monotonic()

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        peer = transport.get_extra_info("peername")
        if isinstance(peer, tuple):
            self.peer = peer[0].encode()
        self.door.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._closing = self._gone = True
        self.door.left(self)
        for exchange in self._queue:
            exchange.abort()
        self._queue.clear()

    def data_received(self, data: bytes) -> None:
        self.last_read = time.monotonic()
        if self._closing or self._deaf:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._stop_reading(None)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            self._stop_reading(cause if isinstance(cause, HostError) else bad_request("The request is malformed."))
        except httptools.HttpParserError as error:
            if self._incoming is not None or not self._queue or self._queue[-1].keep_alive:
                self._stop_reading(bad_request(f"The request breaks HTTP's framing: {error}."))
            else:
                self._deaf = True  # bytes after `Connection: close`
        else:
            self._unparsed = self._unparsed + len(data) if self._in_head else 0
            if self._unparsed > MAX_HEAD_BYTES + _READ_BYTES:
                self._stop_reading(head_too_large())
        self.advance()

    def eof_received(self) -> bool:
        if self._incoming is not None or not self._queue:
            return False
        # The client has said all it has to say and may still listen (`nc -N`).
        self._deaf = True
        self._queue[-1].keep_alive = False
        return True

    def pause_writing(self) -> None:
        self.writable = False
        if self._queue:
            self._queue[0].pause(pause=True)

    def resume_writing(self) -> None:
        self.writable = True
        if self._queue:
            self._queue[0].pause(pause=False)

    # httptools' side.

    def on_message_begin(self) -> None:
        self._incoming = Exchange(self)
        self._head_bytes = 0

    def on_url(self, url: bytes) -> None:
        exchange = self._current()
        exchange.target += url
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count(len(name) + len(value) + 4)
        if self._in_head:
            headers = self._current().headers
            headers.append((name, value))
            if len(headers) > MAX_HEADERS:
                raise head_too_large()

    def on_headers_complete(self) -> None:
        exchange = self._current()
        parser = self._parser
        keep_alive = parser.should_keep_alive() and not self.door.closing
        exchange.read_head(parser.get_method(), parser.get_http_version(), keep_alive=keep_alive)
        self._queue.append(exchange)

    def on_body(self, data: bytes) -> None:
        exchange = self._current()
        exchange.body(data)
        if not exchange.dispatched and exchange.ready:
            self.advance()

    def on_message_complete(self) -> None:
        exchange, self._incoming = self._current(), None
        exchange.end()

    @property
    def _in_head(self) -> bool:
        return self._incoming is not None and (not self._queue or self._queue[-1] is not self._incoming)

    def _current(self) -> Exchange:
        if self._incoming is None:
            raise bad_request("The request is malformed.")
        return self._incoming

    def _count(self, size: int) -> None:
        # Trailers count too: they are a way to send endless headers.
        self._head_bytes += size
        if self._head_bytes > MAX_HEAD_BYTES:
            raise head_too_large()

    def _stop_reading(self, refusal: HostError | None) -> None:
        """Nothing after this point of the stream can be trusted: answer what came before, then this, then close."""
        self._deaf = True
        exchange, self._incoming = self._incoming, None
        if refusal is None:
            if self._queue:
                self._queue[-1].keep_alive = False
            return
        if exchange is None or exchange not in self._queue:
            exchange = Exchange(self)
            self._queue.append(exchange)
        elif exchange.dispatched:
            self.abort()  # its body broke off while it was being passed on
            return
        exchange.refusal = refusal
        exchange.keep_alive = False

    # The exchanges' side.

    def write(self, data: bytes) -> None:
        """Write bytes of the answer to the first request of the queue."""
        self._transport.write(data)

    def abort(self) -> None:
        """Break the connection, so that the client sees that an answer is not whole."""
        self._closing = True
        if self._gone:
            return
        # A reset: where an answer ends with its connection, an orderly end would make a part look whole.
        sock = self._transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def block(self, *, blocked: bool) -> None:
        """Read no more of a body than the server takes."""
        self._blocked = blocked
        self.regulate()

    def advance(self) -> None:
        """Take the next step for the first of the queue; a loop, since a step may end at once and call this again."""
        if self._advancing:
            return
        self._advancing = True
        while self._queue and not self._closing:
            exchange = self._queue[0]
            if exchange.done:
                self._queue.popleft()
                self._blocked = False
                if not exchange.keep_alive:
                    self._hang_up(drain=not exchange.complete)
            elif exchange.dispatched:
                break
            elif exchange.ready:
                exchange.dispatch()
            elif exchange.expects_continue:
                self._invite(exchange)
            else:
                break
        self._advancing = False
        self.regulate()

    def _invite(self, exchange: Exchange) -> None:
        try:
            exchange.route()
        except HostError as error:
            exchange.refusal = error
        else:
            exchange.continued = True
            self._transport.write(CONTINUE)

    def regulate(self) -> None:
        """Read while it is clear what to do with what is read."""
        if self._closing:
            return
        read = not self._blocked and len(self._queue) < 2 and not (self._queue and self._queue[0].overfull())
        if read != self._reading:
            self._reading = read
            if read:
                self._transport.resume_reading()
            else:
                self._transport.pause_reading()

    def _hang_up(self, *, drain: bool) -> None:
        self._closing = True
        if not drain:
            self._transport.close()
            return
        # Closing with unread bytes resets the connection and takes the answer with it: let the client finish first.
        self._transport.write_eof()
        self._transport.resume_reading()
        asyncio.get_running_loop().call_later(self.door.limits.linger_seconds, self._transport.abort)

    def check_time(self, now: float) -> None:
        """Called once a second: end what has been standing still for too long."""
        limits = self.door.limits
        if self._closing:
            return
        if not self._queue:
            # A head has to come as a whole in time, however busily its bytes trickle in.
            idle = self._incoming is None
            since = self.last_read if self._incoming is None else self._incoming.progress
            if now - since > (limits.keep_alive_seconds if idle else limits.client_seconds):
                self._transport.close()
            return
        exchange = self._queue[0]
        if exchange.dispatched and (exchange.complete or not self._reading):
            stalled = limits.client_seconds if not self.writable else limits.answer_seconds
            if now - exchange.progress > stalled:
                exchange.expire()
        elif self._reading and now - self.last_read > limits.client_seconds:
            self.abort()

    def close_if_idle(self) -> None:
        """The host is going down: close now, or after the answer under way."""
        if self._queue:
            self._queue[-1].keep_alive = False
        elif not self._closing:
            self._closing = True
            self._transport.close()
