"""What goes over the wire: which heads are let in, and how heads are written anew for the other side.

httptools (Node's llhttp in its strict mode) finds the message boundaries and refuses what RFC 9112 calls a smuggling
attempt: Content-Length beside Transfer-Encoding, repeated or signed lengths, bare LF, folded lines, NUL. What it
lets through and a scoring server may read differently is refused here. Nothing is ever passed on as raw bytes:
each head is written anew and bodies are framed anew, so both sides agree on where a message ends.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import NamedTuple

from ..errors import HostError

Headers = list[tuple[bytes, bytes]]

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

# RFC 9110 section 7.6.1: these are for one hop only; the framing ones are written anew.
_HOP_BY_HOP = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"te", b"trailer", b"upgrade", b"transfer-encoding")
)
_NOT_FOR_THE_SERVER = _HOP_BY_HOP | {
    b"content-length", b"expect", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix",
}  # fmt: skip
_TARGET = re.compile(rb"[!-~]+")
_PREFIX = b"/endpoints/"
_REASONS = {status.value: status.phrase.encode() for status in HTTPStatus}


def bad_request(message: str, status: int = 400) -> HostError:
    """A refusal after which the connection is closed, since the next message's start is uncertain."""
    return HostError(status, "BAD_REQUEST", message)


def head_too_large() -> HostError:
    """431, for a head over either limit."""
    return bad_request(
        f"The request's head is over {MAX_HEAD_BYTES} bytes or {MAX_HEADERS} headers; send fewer or shorter ones.", 431
    )


class Framing(NamedTuple):
    """What a request's head says about the message itself."""

    length: int | None
    """The body's declared length in bytes; None: no Content-Length."""
    chunked: bool
    expects_continue: bool
    deployment: bytes | None
    """The deployment that `X-Slipway-Deployment` asks for."""


def check_head(method: bytes, version: str, target: bytes, headers: Headers) -> Framing:
    """Refuse a head that two parsers could read in two ways.

    Raises:
        HostError: 400, 417, 501 or 505 with a sentence that names the rule.
    """
    if version not in {"1.1", "1.0"}:
        raise bad_request(f"HTTP/{version} is not spoken here; use HTTP/1.1.", 505)
    if method == b"CONNECT":
        raise bad_request("CONNECT is not served: this is no forward proxy; call /endpoints/{endpoint}/….", 501)
    if not _TARGET.fullmatch(target):
        raise bad_request("The request's target has characters outside printable ASCII; percent-encode them.")
    length: int | None = None
    deployment: bytes | None = None
    hosts = 0
    chunked = expects = upgrade = False
    for name, value in headers:
        key = name.lower()
        if key == b"content-length":
            if not value.isdigit() or length is not None:
                raise bad_request("Content-Length must be one decimal number; send it once.")
            length = int(value)
        elif key == b"transfer-encoding":
            if chunked or value.strip().lower() != b"chunked":
                raise bad_request("Only 'Transfer-Encoding: chunked', sent once, is understood.", 501)
            chunked = True
        elif key == b"host":
            hosts += 1
        elif key == b"expect":
            if value.lower() != b"100-continue":
                raise bad_request("The only expectation that can be met is 100-continue.", 417)
            expects = version == "1.1"
        elif key == b"x-slipway-deployment":
            deployment = value
        elif key == b"upgrade":
            upgrade = True
    if hosts > 1 or (hosts == 0 and version == "1.1"):
        raise bad_request("A request needs exactly one Host header.")
    if chunked and (length is not None or version == "1.0"):
        raise bad_request("Transfer-Encoding cannot stand beside Content-Length or in HTTP/1.0; send one of the two.")
    if upgrade and (chunked or length):
        # llhttp leaves a body unread after an offer to upgrade; without one, the offer is simply not taken up.
        raise bad_request("Upgrades (WebSocket, h2c) are not served; send plain HTTP/1.1.", 501)
    return Framing(length, chunked, expects, deployment)


def split_target(target: bytes) -> tuple[bytes, bytes] | None:
    """`/endpoints/{e}/rest?q` → (`{e}`, `/rest?q`); None if the target lies outside `/endpoints/`.

    The absolute form (`http://host/endpoints/…`, RFC 9112 section 3.2.2) is read as its path.
    """
    if not target.startswith(b"/"):
        _, found, rest = target.partition(b"://")
        target = b"/" + rest.partition(b"/")[2] if found else target
    if not target.startswith(_PREFIX):
        return None
    rest = target[len(_PREFIX) :]
    end = rest.find(b"/")
    query = rest.find(b"?")
    if query >= 0 and (end < 0 or query < end):
        return rest[:query], b"/" + rest[query:]
    return (rest, b"/") if end < 0 else (rest[:end], rest[end:])


def request_head(
    method: bytes, path: bytes, headers: Headers, peer: bytes, scheme: bytes, prefix: bytes, length: int | None,
    *, chunked: bool,
) -> bytes:  # fmt: skip
    """The head sent to a scoring server: end-to-end headers, a framing of our own, and `X-Forwarded-*`."""
    parts = [b"%b %b HTTP/1.1\r\n" % (method, path)]
    named: frozenset[bytes] = frozenset()
    host = b""
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
    parts.append(
        b"X-Forwarded-For: %b\r\nX-Forwarded-Proto: %b\r\nX-Forwarded-Host: %b\r\nX-Forwarded-Prefix: %b\r\n\r\n"
        % (peer, scheme, host or b"localhost", prefix)
    )
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
    return b"HTTP/1.1 %d %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n%b%b\r\n%b" % (
        status, _REASONS.get(status, b""), len(body), retry,
        b"Connection: close\r\n" if close else b"", b"" if head_only else body,
    )  # fmt: skip


def connection_options(value: bytes) -> frozenset[bytes]:
    """The lower-case tokens of a Connection header."""
    return frozenset(token.strip().lower() for token in value.split(b","))


def chunk(data: bytes) -> bytes:
    """One chunk of a chunked body (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(data), data)
