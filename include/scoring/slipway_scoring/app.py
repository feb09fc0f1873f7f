"""The RSGI application (https://github.com/emmett-framework/granian/blob/master/docs/spec/RSGI.md).

One coroutine a request: find the route, check the token, read the body within its bound, let the dialect answer, count
and log. This is the hot path; what looks repeated or flat here is so because a call costs time.
"""

from __future__ import annotations

import hmac
import itertools
import logging
import os
import time
from collections.abc import Sequence
from typing import Any

import orjson

from slipway_scoring.errors import MethodNotAllowed, ScoringError, TooLarge, Unauthenticated
from slipway_scoring.http import JSON, Request, Response, Route, Router, decompress
from slipway_scoring.logs import Entry, RequestLog
from slipway_scoring.metrics import Meters
from slipway_scoring.scorer import Scorer
from slipway_scoring.settings import Settings

logger = logging.getLogger(__name__)

UNKNOWN = "other"
"""The route under which requests for unknown paths are counted."""
_LONGEST_ID = 128
_INTERNAL = Response(
    orjson.dumps({"error_code": "INTERNAL_ERROR", "message": "The server failed: its log says why, by request id."}),
    500,
)


class App:
    """Answers requests by the dialects' routes."""

    def __init__(
        self, routes: Sequence[Route], scorer: Scorer, settings: Settings, meters: Meters, log: RequestLog
    ) -> None:
        self._router = Router(routes, settings.root_path)
        self._scorer = scorer
        self._meters = meters
        self._log = log
        self._max_body = settings.max_body_bytes
        self._token = f"Bearer {settings.token}".encode() if settings.token else None
        self._ids = itertools.count()
        self._id_prefix = os.urandom(8).hex()
        self._numbers = {path: meters.number(path) for path in (UNKNOWN, *(route.path for route in routes))}
        self.in_flight = 0
        self.last_request = time.perf_counter()

    async def __rsgi__(self, scope: Any, protocol: Any) -> None:
        """Answer one request."""
        if scope.proto != "http":
            protocol.close(None)
            return
        started = time.perf_counter()
        self.in_flight += 1
        self.last_request = started
        # Every look at the scope makes a new object on the Rust side: look once.
        method, path, given = scope.method, scope.path, scope.headers
        request_id = given.get("x-request-id")
        if request_id is None or len(request_id) > _LONGEST_ID or not request_id.isprintable():
            request_id = f"{self._id_prefix}{next(self._ids):08x}"
        error: str | None = None
        route: Route | None = None
        try:
            route, arguments = self._router.find(path)
            handler = route.handlers.get("GET" if method == "HEAD" else method)
            if handler is None:
                raise _wrong_method(route, method, path)
            if self._token is not None and not route.open:
                self._authenticate(given.get("authorization"))
            body = await self._body(given, protocol) if route.scores else b""
            response = await handler(Request(method, path, given, body, arguments))
        except ScoringError as refusal:
            response, error = refuse(refusal), refusal.message
        except Exception:
            # A bug of ours: the client learns the request id, the log the rest.
            logger.exception("request %s failed", request_id)
            response, error = _INTERNAL, "internal error"
        headers = [("content-type", response.content_type), ("x-request-id", request_id), *response.headers]
        if self._scorer.draining:
            headers.append(("connection", "close"))
        if method == "HEAD":
            protocol.response_empty(response.status, headers)
        else:
            protocol.response_bytes(response.status, headers, response.body)
        seconds = time.perf_counter() - started
        self.in_flight -= 1
        self._meters.request(self._numbers[UNKNOWN if route is None else route.path], response.status, seconds)
        self._log.add(Entry(request_id, method, path, response.status, seconds, response.rows, error))

    async def _body(self, headers: Any, protocol: Any) -> bytes:
        """The body of a request that costs a prediction: refused before it is read if the queue is full."""
        batcher = self._scorer.batcher
        batcher.admit()
        batcher.approach()
        try:
            return await self._read(headers, protocol)
        finally:
            batcher.arrive()

    def note_levels(self) -> None:
        """Put the momentary levels into the metrics; called a few times a second."""
        self._meters.levels(self._scorer.batcher.depth, self.in_flight)

    def _authenticate(self, given: str | None) -> None:
        if self._token is not None and not hmac.compare_digest((given or "").encode(), self._token):
            raise Unauthenticated("The bearer token is missing or wrong: send 'Authorization: Bearer <token>'.")

    async def _read(self, headers: Any, protocol: Any) -> bytes:
        """The body, within its bound whether or not its length is announced."""
        length = headers.get("content-length")
        body: bytes
        if length is not None and length.isdecimal() and int(length) <= self._max_body:
            body = await protocol()
        else:
            chunks = bytearray()
            async for chunk in protocol:
                chunks += chunk
                if len(chunks) > self._max_body:
                    raise TooLarge(f"The body has more than {self._max_body} bytes: send fewer rows a request.")
            body = bytes(chunks)
        encoding = headers.get("content-encoding")
        if encoding is not None and encoding != "identity":
            return decompress(body, encoding, self._max_body)
        return body


def _wrong_method(route: Route, method: str, path: str) -> MethodNotAllowed:
    allow = ", ".join(route.handlers)
    return MethodNotAllowed(f"{path} takes {allow}, not {method[:20]}.", allow)


def refuse(refusal: ScoringError) -> Response:
    """The answer that a ScoringError makes."""
    headers: tuple[tuple[str, str], ...] = ()
    if refusal.retry_after is not None:
        headers = (("retry-after", str(refusal.retry_after)),)
    if isinstance(refusal, MethodNotAllowed):
        headers = (("allow", refusal.allow),)
    if isinstance(refusal, Unauthenticated):
        headers = (("www-authenticate", "Bearer"),)
    body = orjson.dumps({"error_code": refusal.error_code, "message": _clean(refusal.message)})
    return Response(body, refusal.status, JSON, headers)


def _clean(message: str) -> str:
    """Text that UTF-8 can hold: payloads bring lone surrogates into messages."""
    return message.encode("utf-8", "replace").decode()
