"""Requests, responses and routes: the little that the dialects need of HTTP."""

from __future__ import annotations

import re
import zlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from slipway_scoring.errors import BadPayload, NotFound, TooLarge, UnsupportedMediaType

JSON = "application/json"


class Headers(Protocol):
    """RSGI's request headers; names in lower case."""

    def get(self, key: str, default: Any = None) -> Any:
        """The header's value."""
        ...


class Request(NamedTuple):
    """One request with its whole body."""

    method: str
    path: str
    headers: Headers
    body: bytes
    arguments: Mapping[str, str]


class Response(NamedTuple):
    """One answer."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: tuple[tuple[str, str], ...] = ()
    rows: int = 0


Handler = Callable[[Request], Awaitable[Response]]


class Route(NamedTuple):
    """A path template such as `/v2/models/{name}`, and who answers it.

    Args:
        path: the template; a parameter matches one segment.
        handlers: by method.
        open: needs no token.
        scores: costs a prediction, so it is refused while the queue is full.
    """

    path: str
    handlers: Mapping[str, Handler]
    open: bool = False
    scores: bool = False


class Router:
    """Finds routes by path: fixed ones by a dict, templates in order."""

    def __init__(self, routes: Sequence[Route], root_path: str) -> None:
        self._root = root_path
        self._fixed = {route.path: route for route in routes if "{" not in route.path}
        self._templates = [
            (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+)", re.escape(route.path))), route)
            for route in routes
            if "{" in route.path
        ]

    def find(self, path: str) -> tuple[Route, Mapping[str, str]]:
        """The route and the template's arguments.

        Raises:
            NotFound: no route has that path.
        """
        route = self._fixed.get(path)
        if route is not None:
            return route, _NO_ARGUMENTS
        if self._root and path.startswith(self._root + "/"):
            return self._without_root(path[len(self._root) :])
        return self._without_root(path)

    def _without_root(self, path: str) -> tuple[Route, Mapping[str, str]]:
        route = self._fixed.get(path)
        if route is not None:
            return route, _NO_ARGUMENTS
        for pattern, template in self._templates:
            found = pattern.fullmatch(path)
            if found:
                return template, found.groupdict()
        raise NotFound("There is no such path: /openapi.json lists those that there are.")


_NO_ARGUMENTS: Mapping[str, str] = {}


def media_type(value: str | None) -> tuple[str, dict[str, str]]:
    """`text/csv; header=present` as `("text/csv", {"header": "present"})`, in lower case."""
    if not value:
        return "", {}
    kind, *parameters = value.lower().split(";")
    pairs = (parameter.partition("=") for parameter in parameters)
    return kind.strip(), {name.strip(): text.strip().strip('"') for name, _, text in pairs}


def accepted(value: str | None, offered: Sequence[str]) -> str | None:
    """The first of `offered` with the best quality in an Accept header (RFC 9110, 12.5.1); None if none fits."""
    if not value:
        return offered[0]
    best: tuple[float, int] | None = None
    for part in value.split(","):
        kind, parameters = media_type(part)
        try:
            quality = float(parameters.get("q", "1"))
        except ValueError:
            quality = 0.0
        for position, offer in enumerate(offered):
            fits = kind in ("*/*", "*", offer) or (kind.endswith("/*") and offer.startswith(kind[:-1]))
            if fits and quality > 0 and (best is None or (quality, -position) > best):
                best = (quality, -position)
    return None if best is None else offered[-best[1]]


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Undo a Content-Encoding of gzip or deflate, without making more than `limit` bytes.

    Raises:
        UnsupportedMediaType: another encoding.
        TooLarge: it becomes too large.
        BadPayload: it is not so encoded.
    """
    if encoding.lower() not in {"gzip", "x-gzip", "deflate"}:
        raise UnsupportedMediaType(f"Content-Encoding '{encoding[:50]}' is not read: send gzip, deflate or none.")
    inflater = zlib.decompressobj(wbits=47)  # 32 + 15: finds out itself whether gzip or zlib
    try:
        inflated = inflater.decompress(body, limit + 1)
    except zlib.error as error:
        raise BadPayload(f"The body is not {encoding} ({error}): send it as Content-Encoding says.") from error
    if len(inflated) > limit:
        raise TooLarge(f"The decompressed body has more than {limit} bytes: send fewer rows a request.")
    if not inflater.eof:
        raise BadPayload(f"The {encoding} body ends early: send all of it.")
    return inflated
