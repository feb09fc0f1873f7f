"""How messages are written: heads anew for the other side, chunks, and the front door's own answers.

Nothing is ever passed on as raw bytes: each head is written anew and each body framed anew, so that both sides agree
on where a message ends.
"""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import NamedTuple

from .framing import Headers

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

# RFC 9110 section 7.6.1: these are for one hop only; the framing ones are written anew.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"transfer-encoding")
)
_NOT_FOR_THE_SERVER = _HOP_BY_HOP | {
    b"content-length", b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix",
}  # fmt: skip
_FORWARDED = (
    b"Via: 1.1 slipway\r\nX-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\n"
    b"X-Forwarded-Prefix: %b\r\n\r\n"
)
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


class Way(NamedTuple):
    """How a request came here, for `X-Forwarded-*`."""

    peer: bytes
    scheme: bytes
    prefix: bytes


def request_head(method: bytes, path: bytes, headers: Headers, way: Way, *, length: int | None, chunked: bool) -> bytes:
    """The head sent to a scoring server: end-to-end headers, a framing of our own, and `X-Forwarded-*`."""
    parts = [b"%b %b HTTP/1.1\r\n" % (method, path)]
    named: frozenset[bytes] = frozenset()
    peer, host = way.peer, b""
    for name, value in headers:
        key = name.lower()
        if key in _NOT_FOR_THE_SERVER:
            if key == b"connection":
                named |= connection_options(value)
            elif key == b"x-forwarded-for":
                peer = b"%b, %b" % (value, peer)
            continue
        if key == b"host":
            host = value
        parts.append(b"%b: %b\r\n" % (name, value))
    if named - {b"close", b"keep-alive"}:
        parts = parts[:1] + [
            b"%b: %b\r\n" % (name, value)
            for name, value in headers
            if (key := name.lower()) == b"host" or (key not in _NOT_FOR_THE_SERVER and key not in named)
        ]
    if not host:
        parts.append(b"Host: localhost\r\n")
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    elif length is not None:
        parts.append(b"Content-Length: %d\r\n" % length)
    parts.append(_FORWARDED % (peer, way.scheme, host or b"localhost", way.prefix))
    return b"".join(parts)


def response_head(
    status: int, reason: bytes, headers: Headers, deployment: bytes, *, chunked: bool, close: bool, keep_alive: bool
) -> bytes:
    """The head sent to a client; `keep_alive` says it aloud, for HTTP/1.0 clients that asked."""
    parts = [b"HTTP/1.1 %d %b\r\n" % (status, reason)]
    named: frozenset[bytes] = frozenset()
    for name, value in headers:
        if name.lower() == b"connection":
            named = connection_options(value)
    drop = _HOP_BY_HOP | named if named else _HOP_BY_HOP
    parts += [b"%b: %b\r\n" % (name, value) for name, value in headers if name.lower() not in drop]
    if chunked:
        parts.append(b"Transfer-Encoding: chunked\r\n")
    if close:
        parts.append(b"Connection: close\r\n")
    elif keep_alive:
        parts.append(b"Connection: keep-alive\r\n")
    parts.append(b"X-Slipway-Deployment: %b\r\n\r\n" % deployment)
    return b"".join(parts)


def own_answer(status: int, body: bytes, *, retry_after: int | None, close: bool, head_only: bool) -> bytes:
    """A whole answer of the front door itself, as JSON."""
    retry = b"Retry-After: %d\r\n" % retry_after if retry_after is not None else b""
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %b\r\n%b%b\r\n%b" % (
        status, _REASONS.get(status, b""), len(body), formatdate(usegmt=True).encode(), retry,
        b"Connection: close\r\n" if close else b"", b"" if head_only else body,
    )  # fmt: skip


def connection_options(value: bytes) -> frozenset[bytes]:
    """The lower-case tokens of a Connection header."""
    return frozenset(token.strip().lower() for token in value.split(b","))


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
