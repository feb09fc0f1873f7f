"""Which request heads are let in.

httptools (Node's llhttp in its strict mode) finds the message boundaries and refuses what RFC 9112 calls a smuggling
attempt: Content-Length beside Transfer-Encoding, repeated or signed lengths, bare LF, folded lines, NUL. What it
lets through and a scoring server may read differently is refused here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from ..errors import HostError

Headers = list[tuple[bytes, bytes]]

MAX_HEAD_BYTES = 32 * 1024
MAX_HEADERS = 100


_FRAMING = frozenset((b"content-length", b"transfer-encoding", b"host", b"expect", b"upgrade", b"x-slipway-deployment"))
_TARGET = re.compile(rb"[!-~]+")
_PREFIX = b"/endpoints/"


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
    found: dict[bytes, list[bytes]] = {}
    for name, value in headers:
        key = name.lower()
        if key in _FRAMING:
            found.setdefault(key, []).append(value)
    hosts = found.get(b"host", [])
    if len(hosts) > 1 or (not hosts and version == "1.1"):
        raise bad_request("A request needs exactly one Host header.")
    length, chunked = _body(version, found.get(b"content-length", []), found.get(b"transfer-encoding", []))
    expected = [value.lower() for value in found.get(b"expect", [])]
    if expected not in ([], [b"100-continue"]):
        raise bad_request("The only expectation that can be met is 100-continue.", 417)
    if b"upgrade" in found and (chunked or length):
        # llhttp leaves a body unread after an offer to upgrade; without one, the offer is simply not taken up.
        raise bad_request("Upgrades (WebSocket, h2c) are not served; send plain HTTP/1.1.", 501)
    deployment = found.get(b"x-slipway-deployment", [None])[-1]
    return Framing(length, chunked, bool(expected) and version == "1.1", deployment)


def _body(version: str, lengths: list[bytes], codings: list[bytes]) -> tuple[int | None, bool]:
    """The body's declared length, and whether it is chunked."""
    if codings and [value.strip().lower() for value in codings] != [b"chunked"]:
        raise bad_request("Only 'Transfer-Encoding: chunked', sent once, is understood.", 501)
    if codings and (lengths or version == "1.0"):
        raise bad_request("Transfer-Encoding cannot stand beside Content-Length or in HTTP/1.0; send one of the two.")
    if not lengths:
        return None, bool(codings)
    if len(lengths) > 1 or not lengths[0].isdigit():
        raise bad_request("Content-Length must be one decimal number; send it once.")
    return int(lengths[0]), False


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
