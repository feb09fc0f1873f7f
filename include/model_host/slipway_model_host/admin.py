"""The admin API: who may change endpoints, and how HTTP becomes calls of `Endpoints`."""

from __future__ import annotations

import hmac
import logging
import math
from collections.abc import Awaitable, Callable
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from .endpoints import Endpoints
from .errors import HostError, invalid, not_found
from .metrics import CONTENT_TYPE, exposition
from .records import Spec, check_deployment, check_endpoint

_log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1024 * 1024
MAX_WAIT_SECONDS = 300.0
_Model = TypeVar("_Model", bound=BaseModel)
_CODES = {404: "ENDPOINT_NOT_FOUND", 405: "METHOD_NOT_ALLOWED"}


class _Live(BaseModel):
    model_config = ConfigDict(extra="forbid")

    deployment: Annotated[str, Field(min_length=1, max_length=128)]


class Admin:
    """The handlers; each answers JSON, errors as `{"error_code", "message"}`."""

    def __init__(self, endpoints: Endpoints, token: str) -> None:
        self._endpoints = endpoints
        self._secret = token.encode()

    def app(self) -> Starlette:
        """The ASGI application."""
        one, deployment = "/v1/endpoints/{endpoint}", "/v1/endpoints/{endpoint}/deployments/{deployment}"
        return Starlette(
            routes=[
                Route("/health", self._health),
                self._route("/metrics", self._metrics, "GET"),
                self._route("/v1/endpoints", self._list, "GET"),
                self._route(one, self._get, "GET"),
                self._route(one, self._delete, "DELETE"),
                self._route(f"{one}/token", self._token, "GET"),
                self._route(f"{one}/live", self._switch, "POST"),
                self._route(deployment, self._put_deployment, "PUT"),
                self._route(deployment, self._get_deployment, "GET"),
                self._route(deployment, self._delete_deployment, "DELETE"),
            ],
            exception_handlers={
                HostError: _host_error,
                HTTPException: _http_error,
                OSError: _disk_error,
                Exception: _crash,
            },
        )

    def _route(self, path: str, handler: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        async def guarded(request: Request) -> Response:
            scheme, _, given = request.headers.get("authorization", "").partition(" ")
            if not hmac.compare_digest(given.strip().encode(), self._secret) or scheme.lower() != "bearer":
                raise HostError(
                    401, "UNAUTHENTICATED", "The admin API needs its token; send `Authorization: Bearer TOKEN`."
                )
            return await handler(request)

        return Route(path, guarded, methods=[method])

    async def _health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, _: Request) -> Response:
        return Response(exposition(self._endpoints.views()), media_type=CONTENT_TYPE)

    async def _list(self, _: Request) -> Response:
        return JSONResponse({"endpoints": self._endpoints.views()})

    async def _get(self, request: Request) -> Response:
        return JSONResponse(self._endpoints.get(_endpoint(request)).view())

    async def _delete(self, request: Request) -> Response:
        await self._endpoints.delete(_endpoint(request))
        return JSONResponse({})

    async def _token(self, request: Request) -> Response:
        name = _endpoint(request)
        token = self._endpoints.get(name).record.token
        if token is None:
            raise not_found(f"Endpoint '{name}' has no token, since no deployment of it asks for auth=token.")
        return JSONResponse({"token": token}, headers={"Cache-Control": "no-store"})

    async def _switch(self, request: Request) -> Response:
        body = await _body(request, _Live)
        endpoint = await self._endpoints.switch(_endpoint(request), check_deployment(body.deployment))
        return JSONResponse(endpoint.view())

    async def _put_deployment(self, request: Request) -> Response:
        name, deployment = _endpoint(request), check_deployment(request.path_params["deployment"])
        spec = await _body(request, Spec)
        found, new = await self._endpoints.put(name, deployment, spec)
        return JSONResponse(found.view(), 202 if new else 200)

    async def _get_deployment(self, request: Request) -> Response:
        name, deployment = _endpoint(request), check_deployment(request.path_params["deployment"])
        found = self._endpoints.deployment(name, deployment)
        try:
            wait = float(request.query_params.get("wait", "0"))
        except ValueError:
            wait = math.nan
        if math.isnan(wait):
            raise invalid("`wait` must be a number of seconds.")
        await found.settled(min(max(wait, 0.0), MAX_WAIT_SECONDS))
        # It may have been removed meanwhile.
        return JSONResponse(self._endpoints.deployment(name, deployment).view())

    async def _delete_deployment(self, request: Request) -> Response:
        name, deployment = _endpoint(request), check_deployment(request.path_params["deployment"])
        await self._endpoints.delete_deployment(name, deployment)
        return JSONResponse({})


def _endpoint(request: Request) -> str:
    return check_endpoint(request.path_params["endpoint"])


async def _body(request: Request, model: type[_Model]) -> _Model:
    """The request's JSON body as a `model`, read no further than the limit."""
    data = b""
    async for part in request.stream():
        data += part
        if len(data) > MAX_BODY_BYTES:
            raise HostError(413, "REQUEST_LIMIT_EXCEEDED", f"The body is over {MAX_BODY_BYTES} bytes; send less.")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise invalid(f"{where} is not usable: {first['msg']}.") from None


async def _host_error(_: Request, error: Exception) -> Response:
    if not isinstance(error, HostError):
        raise error
    headers = {} if error.retry_after is None else {"Retry-After": str(error.retry_after)}
    if error.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(error.body(), error.status, headers, "application/json")


async def _http_error(request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    code = _CODES.get(error.status_code, "BAD_REQUEST")
    message = f"{request.method} {request.url.path[:200]} is no call of the admin API; see its README."
    return Response(
        HostError(error.status_code, code, message).body(), error.status_code, error.headers, "application/json"
    )


async def _disk_error(_: Request, error: Exception) -> Response:
    _log.error("The host's state could not be written.", exc_info=error)
    reason = error.strerror if isinstance(error, OSError) else None
    failure = HostError(
        507,
        "INSUFFICIENT_STORAGE",
        f"The host's state cannot be written ({reason or error}); make room, then try again.",
    )
    return Response(failure.body(), failure.status, media_type="application/json")


async def _crash(_: Request, error: Exception) -> Response:
    _log.error("The admin API failed.", exc_info=error)
    failure = HostError(500, "INTERNAL_ERROR", "The model host failed on this request; see its log.")
    return Response(failure.body(), 500, media_type="application/json")
