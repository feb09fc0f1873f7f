"""For those who run the server: `/metrics`, `/openapi.json`, `/docs`."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files

import orjson

from slipway_scoring import openapi
from slipway_scoring.http import Handler, Request, Response, Route
from slipway_scoring.scorer import Scorer


def routes(scorer: Scorer, *, root_path: str, metrics: Callable[[], bytes]) -> list[Route]:
    """The routes of this dialect."""
    return [
        Route("/metrics", {"GET": _computed(metrics, "text/plain; version=0.0.4; charset=utf-8")}),
        Route("/openapi.json", {"GET": _fixed(orjson.dumps(openapi.describe(scorer.model, root_path)))}),
        Route("/docs", {"GET": _fixed(_page(), "text/html; charset=utf-8")}, open=True),
    ]


def _page() -> bytes:
    return (files("slipway_scoring") / "docs.html").read_bytes()


def _fixed(body: bytes, content_type: str = "application/json") -> Handler:
    async def handle(request: Request) -> Response:  # noqa: ARG001 -- every handler takes one
        return Response(body, content_type=content_type)

    return handle


def _computed(make: Callable[[], bytes], content_type: str) -> Handler:
    async def handle(request: Request) -> Response:  # noqa: ARG001 -- every handler takes one
        return Response(make(), content_type=content_type)

    return handle
