"""Lets the Test button of Airflow's UI test connections without a port, as those to AzureML and AWS are.

The UI of Airflow 3.3 sends 0 for the port of such a connection, and its API refuses that because it is not the stored
one, which is none. Later versions take 0 for none (https://github.com/apache/airflow/pull/73298); here it is left out
on the way.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable

from slipway.lazy_app import App, Message

__all__ = ["PortlessConnectionTest"]

_ROUTE = "/api/v2/connections/test"

Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class PortlessConnectionTest:
    """ASGI middleware around Airflow's API (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request; only a test of a connection is read here."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"].endswith(_ROUTE):
            body = _without_port_zero(await _read(receive))
            others = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
            scope = {**scope, "headers": [*others, (b"content-length", str(len(body)).encode())]}
            receive = _first({"type": "http.request", "body": body, "more_body": False}, receive)
        await self._app(scope, receive, send)


async def _read(receive: Receive) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            return bytes(body)


def _without_port_zero(body: bytes) -> bytes:
    try:
        asked = json.loads(body)
    except ValueError:
        return body  # for Airflow to refuse
    if not isinstance(asked, dict) or asked.get("port") != 0:
        return body
    return json.dumps({name: value for name, value in asked.items() if name != "port"}).encode()


def _first(message: Message, receive: Receive) -> Receive:
    """Return a `receive` that gives a message, and then what comes after it."""
    left = [message]

    async def next_message() -> Message:
        return left.pop() if left else await receive()

    return next_message
