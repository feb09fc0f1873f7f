"""One connection to a scoring server: sends a request's bytes, reads the answer, hands it on to the exchange."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

import httptools

from .framing import MAX_HEAD_BYTES, Headers
from .wire import LAST_CHUNK, chunk, response_head

if TYPE_CHECKING:
    from .exchange import Exchange
    from .pool import Pool


class BackendConnection(asyncio.Protocol):
    """Serves one exchange at a time; kept alive by the pool in between."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.exchange: Exchange | None = None
        self.reused = False
        self._lost = False
        self._paused = False
        self._keep_alive = False
        self._transport: asyncio.Transport
        self._parser = httptools.HttpResponseParser(self)
        self._out: list[bytes] = []
        self._reset()

    def _reset(self) -> None:
        self._headers: Headers = []
        self._reason = b""
        self._head_bytes = 0
        self._head_sent = False
        self._chunked = False
        self._until_close = False
        self._whole = False
        self._touched = False

    # The exchange's side.

    def send(self, exchange: Exchange, *, reused: bool) -> None:
        """Take on `exchange` and write what is there of its request."""
        self.exchange = exchange
        self.reused = reused
        if self._lost:  # between its making and now
            exchange.lost(untouched=True, reused=True)
        else:
            exchange.connected(self)

    def write(self, data: bytes) -> None:
        """Write bytes of the request."""
        self._transport.write(data)

    def pause(self, *, pause: bool) -> None:
        """Stop or go on reading the answer, as fast as the client takes it."""
        if pause == self._paused:
            return
        self._paused = pause
        if pause:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def drop(self) -> None:
        """The exchange is over before its answer: this connection cannot be used again."""
        self.exchange = None
        self._transport.abort()

    def close(self) -> None:
        """Close an idle connection."""
        self._transport.close()

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.block(blocked=True)

    def resume_writing(self) -> None:
        if self.exchange is not None:
            self.exchange.block(blocked=False)

    def data_received(self, data: bytes) -> None:
        exchange = self.exchange
        if exchange is None:
            # An answer that nobody asked for could be taken for the next request's.
            self._transport.abort()
            return
        self._touched = True
        clean = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            clean = False
        if self._out:
            exchange.answer(b"".join(self._out))
            self._out.clear()
        if self._whole:
            self._finish(exchange, reusable=clean and self._keep_alive)
        elif not clean or (not self._head_sent and self._head_bytes > MAX_HEAD_BYTES):
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = True
        self.pool.forget(self)
        exchange, self.exchange = self.exchange, None
        if exchange is None:
            return
        if self._head_sent and self._until_close and exc is None:
            if self._chunked:
                exchange.answer(LAST_CHUNK)
            exchange.finish()
        elif self._head_sent:
            exchange.truncated()
        else:
            exchange.lost(untouched=not self._touched, reused=self.reused)

    def _finish(self, exchange: Exchange, *, reusable: bool) -> None:
        self.exchange = None
        reusable = reusable and exchange.sent and not self._until_close
        if reusable:
            self._reset()
        # Given back first: finishing may start the client's next request, which can then use this connection.
        if reusable:
            self.pause(pause=False)
            self.pool.release(self)
        else:
            self._transport.close()
        exchange.finish()

    # httptools' side.

    def on_message_begin(self) -> None:
        if self._whole:
            raise ValueError("more than one answer to one request")

    def on_status(self, status: bytes) -> None:
        self._reason += status

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head_sent:
            return  # a trailer: not passed on, as RFC 9110 section 6.5.1 allows
        self._head_bytes += len(name) + len(value) + 4
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        exchange = self.exchange
        if exchange is None:
            raise ValueError("no request")
        status = self._parser.get_status_code()
        if status < 200:
            return
        names = {name.lower() for name, _ in self._headers}
        bare = exchange.method == b"HEAD" or status in {204, 304}
        self._keep_alive = self._parser.should_keep_alive()
        self._until_close = not bare and b"content-length" not in names and b"transfer-encoding" not in names
        self._chunked = not bare and b"content-length" not in names and exchange.version == "1.1"
        if not bare and b"content-length" not in names and exchange.version != "1.1":
            exchange.keep_alive = False  # HTTP/1.0 knows no chunks: the body ends where the connection does
        if not exchange.complete:
            exchange.keep_alive = False  # the rest of the request's body is not read
        self._out.append(
            response_head(
                status, self._reason, self._headers, exchange.deployment, chunked=self._chunked,
                close=not exchange.keep_alive, keep_alive=exchange.version == "1.0",
            )
        )  # fmt: skip
        self._head_sent = True
        if bare and exchange.method == b"HEAD":
            # llhttp cannot know that this answer has no body whatever its Content-Length says.
            self._whole = True
            self._parser = httptools.HttpResponseParser(self)

    def on_body(self, data: bytes) -> None:
        if self._whole:
            raise ValueError("a body after the end of the answer")
        self._out.append(chunk(data) if self._chunked else data)

    def on_message_complete(self) -> None:
        if not self._head_sent:  # an interim answer (1xx)
            self._headers = []
            self._reason = b""
            return
        if self._whole:
            return
        self._whole = True
        if self._chunked:
            self._out.append(LAST_CHUNK)
