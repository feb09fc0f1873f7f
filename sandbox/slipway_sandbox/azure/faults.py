"""Faults that can be switched on: `PUT /_sandbox/faults` with a list, each used up after `times` hits.

`kind` is one of
* `throttle` (429 with `retry_after` seconds), `error` (HTTP `status`, default 503), `drop` (the request is carried out,
  then the connection breaks inside the answer), `forbidden` (403 AuthorizationFailed): requests whose `METHOD /path`
  matches the regular expression `match`;
* `expired_token`, `skewed_token`: the next tokens are expired, or valid only in the future;
* `quota`, `image_pull`, `liveness`, `stuck`, `name_taken`: the next deployments (or endpoints) whose name matches
  `match`.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway_sandbox.azure.errors import ArmError

__all__ = ["FaultMiddleware", "Faults"]

_REQUEST_KINDS = ("throttle", "error", "drop", "forbidden")
KINDS = (*_REQUEST_KINDS, "expired_token", "skewed_token", "quota", "image_pull", "liveness", "stuck", "name_taken")


class Faults:
    """The faults that wait to happen."""

    def __init__(self) -> None:
        self._waiting: list[dict[str, Any]] = []

    def set(self, *faults: dict[str, Any]) -> None:
        """Replace all faults.

        :raises ValueError: for a kind that does not exist.
        """
        for fault in faults:
            if fault.get("kind") not in KINDS:
                raise ValueError(f"'{fault.get('kind')}' is no fault: use one of {', '.join(KINDS)}.")
        self._waiting = [{"times": 1, "match": ".*", **fault} for fault in faults]

    def take(self, kind: str, name: str = "") -> dict[str, Any] | None:
        """Return a fault of this kind that applies to `name`, and count it."""
        for fault in self._waiting:
            if fault["kind"] == kind and fault["times"] > 0 and re.search(fault["match"], name):
                fault["times"] -= 1
                return fault
        return None

    def for_request(self, name: str) -> dict[str, Any] | None:
        """Return the fault that a request meets."""
        return next((fault for kind in _REQUEST_KINDS if (fault := self.take(kind, name))), None)

    async def route(self, request: Request) -> JSONResponse:
        """`GET`, `PUT` and `DELETE /_sandbox/faults`."""
        if request.method == "PUT":
            try:
                self.set(*(await request.json()))
            except ValueError as e:
                raise ArmError(400, "InvalidFault", str(e)) from None
        elif request.method == "DELETE":
            self.set()
        return JSONResponse([fault for fault in self._waiting if fault["times"] > 0])


class FaultMiddleware:
    """Lets requests meet their faults; the sandbox's own routes meet none."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self.app = app
        self.faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        own = scope["type"] != "http" or scope["path"].startswith("/_sandbox/")
        fault = None if own else self.faults.for_request(f"{scope['method']} {scope['path']}")
        if fault is None:
            await self.app(scope, receive, send)
        elif fault["kind"] == "drop":
            await self.app(scope, receive, _breaking(send))
        else:
            await _refusal(fault)(scope, receive, send)


def _breaking(send: Send) -> Send:
    async def broken(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = [(name, value) for name, value in message["headers"] if name != b"content-length"]
            # More is announced than comes: the server closes the connection inside the body.
            await send({**message, "headers": [*headers, (b"content-length", b"1000000")]})
        elif not message.get("more_body"):
            await send({"type": "http.response.body", "body": message.get("body", b"")})

    return broken


def _refusal(fault: dict[str, Any]) -> JSONResponse:
    if fault["kind"] == "throttle":
        error = {"code": "TooManyRequests", "message": "The request is being throttled as the limit has been reached."}
        return JSONResponse({"error": error}, 429, {"Retry-After": str(fault.get("retry_after", 1))})
    if fault["kind"] == "forbidden":
        message = (
            "The client does not have authorization to perform action "
            "'Microsoft.MachineLearningServices/workspaces/onlineEndpoints/write' over scope 'the workspace'."
        )
        return JSONResponse({"error": {"code": "AuthorizationFailed", "message": message}}, 403)
    status = fault.get("status", 503)
    return JSONResponse({"error": {"code": "InternalServerError", "message": "Received error."}}, status)
