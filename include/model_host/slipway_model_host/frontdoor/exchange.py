"""One request and its answer: buffered while small, streamed when not, sent again when a connection proves dead."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from ..errors import HostError, unavailable
from .framing import Framing, Headers, check_head
from .wire import LAST_CHUNK, Way, chunk, own_answer, request_head

if TYPE_CHECKING:
    from .backend import BackendConnection
    from .client import ClientConnection
    from .routing import Upstream

# Enough for a pooled connection that had died, then a new one at the server that took over.
_TRIES = 3


class Exchange:
    """From the first byte of a request to the last of its answer.

    Every counted entry at an upstream is matched by one leave: in `finish`, `_fail`, `_again` or `abort`.
    """

    __slots__ = (
        "_buffer", "_buffered", "_client", "_connection", "_endpoint", "_framing", "_path", "_streaming",
        "_tries", "_upstream", "complete", "continued", "dispatched", "done", "headers", "keep_alive", "method",
        "progress", "refusal", "sent", "started", "target", "version",
    )  # fmt: skip

    def __init__(self, client: ClientConnection) -> None:
        self._client = client
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._connection: BackendConnection | None = None
        self._framing = Framing(None, False, False, None)
        self._endpoint = self._path = b""
        self._streaming = False
        self._tries = 0
        self._upstream: Upstream | None = None
        self.method = self.target = b""
        self.version = "1.1"
        self.headers: Headers = []
        self.keep_alive = False
        self.complete = False
        """The whole request has been read."""
        self.sent = False
        """The whole request has been written to the server."""
        self.continued = False
        self.dispatched = False
        self.started = False
        """Part of an answer has been written to the client."""
        self.done = False
        self.refusal: HostError | None = None
        self.progress = time.monotonic()

    # Reading the request.

    def read_head(self, method: bytes, version: str, *, keep_alive: bool) -> None:
        """Check the head that has been read.

        Raises:
            HostError: it cannot be passed on safely.
        """
        self.method, self.version, self.keep_alive = method, version, keep_alive
        self._framing = check_head(method, version, self.target, self.headers)
        place = self._client.door.place(self.target)
        if place is not None:
            self._endpoint, self._path = place

    @property
    def deployment(self) -> bytes:
        """The id of the deployment that serves this exchange."""
        return self._upstream.deployment if self._upstream is not None else b""

    @property
    def expects_continue(self) -> bool:
        """The client waits for `100 Continue` before it sends the body."""
        return self._framing.expects_continue and not self.continued and not self.complete and not self._buffered

    @property
    def ready(self) -> bool:
        """Whole, refused, or too large to be held: time to do something about it."""
        return self.complete or self.refusal is not None or self._buffered > self._client.door.limits.replay_bytes

    def body(self, data: bytes) -> None:
        """A piece of the request's body arrived."""
        if self.done:
            return
        if self._streaming and self._connection is not None:
            self.progress = time.monotonic()
            self._connection.write(chunk(data) if self._framing.chunked else data)
        else:
            self._buffer.append(data)
            self._buffered += len(data)

    def end(self) -> None:
        """The request's body is complete."""
        self.complete = True
        self.progress = time.monotonic()
        if self._streaming and self._connection is not None:
            if self._framing.chunked:
                self._connection.write(LAST_CHUNK)
            self.sent = True

    def overfull(self) -> bool:
        """More of the body is held than should be, with no server yet to take it."""
        return self.dispatched and not self._streaming and self._buffered > self._client.door.limits.replay_bytes

    @property
    def _replayable(self) -> bool:
        return self.complete and self._buffered <= self._client.door.limits.replay_bytes

    # Sending it on.

    def route(self) -> Upstream:
        """The upstream that would serve this request now.

        Raises:
            HostError: 404 or 503.
        """
        return self._client.door.pick(self._endpoint, self._framing.deployment, self.target)

    def dispatch(self) -> None:
        """Find a server and send the request, or answer why not."""
        self.dispatched = True
        self.progress = time.monotonic()
        if self.refusal is not None:
            self._answer(self.refusal)
            return
        if (own := self._client.door.own(self.method, self.target)) is not None:
            self._answer_own(200, own, None)
            return
        self._tries += 1
        try:
            self._upstream = self.route()
        except HostError as error:
            self._answer(error)
            return
        self._upstream.enter()
        pool = self._upstream.pool
        if pool is None:
            raise AssertionError("an upstream without a pool was picked")
        # What cannot be sent again must not meet a pooled connection that has just died.
        pool.submit(self, fresh=self._tries > 1 or not self._replayable)

    def connected(self, connection: BackendConnection) -> None:
        """Write what has been read so far; small whole requests leave in one write."""
        self._connection = connection
        connection.pause(pause=not self._client.writable)
        door = self._client.door
        length, chunked = self._framing.length, self._framing.chunked
        if self._replayable:
            length, chunked = (self._buffered if length is not None or chunked else None), False
            parts = list(self._buffer)
            self.sent = True
        else:
            parts = [chunk(data) for data in self._buffer] if chunked else self._buffer
            if self.complete and chunked:
                parts.append(LAST_CHUNK)
            self._streaming = True
            self._buffer = []
            self.sent = self.complete
        way = Way(self._client.peer, door.scheme, door.prefix(self._endpoint))
        head = request_head(self.method, self._path, self.headers, way, length=length, chunked=chunked)
        connection.write(b"".join((head, *parts)))
        self._client.regulate()

    def block(self, *, blocked: bool) -> None:
        """The server takes the body more slowly than the client sends it (or no longer so)."""
        self._client.block(blocked=blocked)

    # Reading the answer.

    def answer(self, data: bytes) -> None:
        """Bytes of the answer, framed for the client."""
        self.started = True
        self.progress = time.monotonic()
        self._client.write(data)

    def pause(self, *, pause: bool) -> None:
        """The client takes the answer more slowly than the server sends it (or no longer so)."""
        if self._connection is not None:
            self._connection.pause(pause=pause)

    def finish(self) -> None:
        """The answer has been written to its end."""
        self._connection = None
        if self._upstream is not None:
            self._upstream.last_answer = time.monotonic()
            self._upstream.leave()
        self.done = True
        self._client.advance()

    def lost(self, *, untouched: bool, reused: bool) -> None:
        """The connection broke before an answer's head was read."""
        self._connection = None
        if untouched and reused and not self._streaming and self._tries < _TRIES:
            self._again()
        elif untouched:
            self._fail(unavailable("The scoring server went away before it answered; try again in 1 s.", 1))
        else:
            self._fail(
                HostError(502, "BAD_GATEWAY", "The scoring server's answer broke off or is no valid HTTP; see its log.")
            )

    def unreachable(self) -> None:
        """No connection could be made: the server has just gone."""
        if self._tries < _TRIES:
            self._again()
        else:
            self._fail(unavailable("The scoring server cannot be reached; try again in 1 s.", 1))

    def truncated(self) -> None:
        """The server died within its answer: the client must be able to see that, so its connection breaks too."""
        self._connection = None
        self.abort()
        self._client.abort()

    def expire(self) -> None:
        """The server has not answered in time."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        if self.started:
            self.truncated()
        else:
            self._fail(HostError(504, "DEADLINE_EXCEEDED", "The scoring server did not answer in time; see its log."))

    def abort(self) -> None:
        """The client has gone, or the answer cannot be completed."""
        if self.done:
            return
        self.done = True
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.drop()
        if self._upstream is not None and self.dispatched:
            self._upstream.leave()

    def _again(self) -> None:
        if self._upstream is not None:
            upstream, self._upstream = self._upstream, None
            upstream.leave()
        self.sent = False
        self.dispatch()

    def _fail(self, error: HostError) -> None:
        if self._upstream is not None:
            upstream, self._upstream = self._upstream, None
            upstream.leave()
        self._answer(error)

    def _answer(self, error: HostError) -> None:
        self._answer_own(error.status, error.body(), error.retry_after)

    def _answer_own(self, status: int, body: bytes, retry_after: int | None) -> None:
        if not self.complete or self.version != "1.1":
            self.keep_alive = False
        self.started = True
        self._client.write(
            own_answer(
                status, body, retry_after=retry_after, close=not self.keep_alive, head_only=self.method == b"HEAD"
            )
        )
        self.done = True
        self._client.advance()
