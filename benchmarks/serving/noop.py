"""The bare HTTP server under the scoring server, with the same settings: what it can do at most."""

from __future__ import annotations

import sys
from typing import Any

from granian import Granian
from granian.constants import HTTPModes, Interfaces, Loops

_HEADERS = [("content-type", "application/json")]
_BODY = b'{"predictions":[1]}'


async def app(scope: Any, protocol: Any) -> None:  # noqa: ARG001 -- RSGI's signature
    """Read and answer."""
    await protocol()
    protocol.response_bytes(200, _HEADERS, _BODY)


if __name__ == "__main__":
    Granian(
        "noop:app",
        port=int(sys.argv[1]),
        interface=Interfaces.RSGI,
        loop=Loops.uvloop,
        http=HTTPModes.http1,
        websockets=False,
        log_enabled=False,
    ).serve()
