"""The app behind the Models page, mounted at `/slipway` on Airflow's own port."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from airflow.api_fastapi.app import get_auth_manager
from fastapi import FastAPI, HTTPException
from fastapi.exceptions import RequestValidationError
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slipway.errors import NotFound, SlipwayError, Unavailable
from slipway.web.core import AirflowRefusal
from slipway.web.page.access import LOOKS
from slipway.web.page.listing import BadCursor
from slipway.web.page.render import STATIC, is_fragment, page
from slipway.web.page.routes import actions, endpoints, imports, lists, models, runs, workflows

__all__ = ["make_app"]

# Nothing from elsewhere, nothing inline, no frame but Airflow's own, no form that leaves.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; frame-ancestors 'self'; base-uri 'none'"
)
_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def make_app() -> FastAPI:
    """Return the app that the plugin mounts."""
    app = FastAPI(title="Slipway models page", docs_url=None, redoc_url=None, openapi_url=None)
    for part in (lists, models, actions, runs, imports, endpoints, workflows):
        app.include_router(part.router, dependencies=[LOOKS])
    app.mount("/static/{version}", _Static(directory=STATIC), name="static")
    for kind in (StarletteHTTPException, RequestValidationError, AirflowRefusal, SlipwayError, BadCursor):
        app.add_exception_handler(kind, _failed)
    app.add_middleware(_SecurityHeaders)
    return app


class _Static(StaticFiles):
    """Files whose address holds the digest of all, so that a browser asks for each only once."""

    def file_response(self, *arguments: Any, **options: Any) -> Response:
        """See `StaticFiles`."""
        response = super().file_response(*arguments, **options)
        response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


class _SecurityHeaders:
    """Adds the headers to every answer; plain ASGI, so that an upload is not buffered on its way."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers if scope["type"] == "http" else send)


async def _failed(request: Request, error: Exception) -> Response:
    """Say in one sentence what went wrong: as a page, or as a notice for the part that asked."""
    status, sentence = _explained(error)
    login = ""
    if status == 401:
        login = get_auth_manager().get_url_login(next_url=_here(request))
        if request.headers.get("sec-fetch-dest") == "document":
            return RedirectResponse(login, 302)
    if is_fragment(request):
        headers = {"HX-Retarget": "#notices", "HX-Reswap": "beforeend"}
        return page(request, "notice.html", {"sentence": sentence, "login": login}, status=status, headers=headers)
    return page(request, "error.html", {"sentence": sentence, "status": status, "login": login}, status=status)


def _explained(error: Exception) -> tuple[int, str]:
    match error:
        case AirflowRefusal():
            return error.status, error.reason
        case HTTPException() | StarletteHTTPException():
            return error.status_code, str(error.detail)
        case RequestValidationError():
            return 422, "The request is not one that this page makes: go back and try again."
        case BadCursor():
            return 400, str(error)
        case Unavailable() | NotFound():
            return 503 if isinstance(error, Unavailable) else 404, str(error)
    return 422, str(error)


def _here(request: Request) -> str:
    path = str(request.url.path)
    return f"{path}?{urlencode(request.query_params)}" if request.query_params else path
