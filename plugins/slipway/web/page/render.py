"""Turns values into HTML: the templates' environment, and the filters that they use.

Everything is escaped; no template marks anything as safe. Where an installation has a path of its own before Airflow's
(`[api] base_url`), it comes from the request.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import jinja2
from airflow.api_fastapi.core_api.security import GetUserDep
from markupsafe import Markup, escape
from starlette.requests import Request
from starlette.responses import HTMLResponse

from slipway.bundles.wording import size
from slipway.web.page.access import csrf_token
from slipway.web.page.airflow import TARGETS

__all__ = ["MOUNT", "STATIC", "airflow_root", "is_fragment", "page", "root"]

MOUNT = "/slipway"
STATIC = Path(__file__).parent / "static"
_CODE = re.compile(r"`([^`]+)`")


def root(request: Request) -> str:
    """Return the path that our own addresses begin with, without a slash at its end."""
    return str(request.scope.get("root_path", "")).rstrip("/")


def airflow_root(request: Request) -> str:
    """Return the path that Airflow's addresses begin with, without a slash at its end."""
    return root(request).removesuffix(MOUNT)


def is_fragment(request: Request) -> bool:
    """Whether htmx asks, for a part of a page."""
    return request.headers.get("hx-request") == "true"


def page(
    request: Request,
    template: str,
    values: Mapping[str, Any],
    *,
    user: GetUserDep | None = None,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> HTMLResponse:
    """Render a template for a request."""
    base = root(request)
    known = {
        "root": base,
        "airflow": airflow_root(request),
        "static": f"{base}/static/{_version()}",
        "csrf": csrf_token(user) if user else "",
        "path": request.url.path.removeprefix(base) or "/",
        "TARGETS": TARGETS,
    }
    html = _environment().get_template(template).render({**known, **values})
    return HTMLResponse(html, status, dict(headers or {}))


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "ago": ago,
        "code": with_code,
        "link": safe_link,
        "part": lambda text: quote(str(text), safe=""),
        "short": lambda digest: str(digest)[:12],
        "size": size,
        "took": took,
        "when": when,
    }
    return environment


@cache
def _version() -> str:
    """Return a digest of all static files: in their address, it lets browsers keep them for good."""
    digest = hashlib.sha256()
    for path in sorted(STATIC.rglob("*")):
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def with_code(text: str) -> Markup:
    """Escape a help text and set what stands between backquotes as code."""
    return Markup(_CODE.sub(r"<code>\1</code>", str(escape(text))))  # noqa: S704  # escaped right here


def safe_link(url: str | None) -> str:
    """Return an address if a click on it can do no harm, else nothing: records are tags that others can write."""
    return url if url and urlsplit(url).scheme in {"http", "https"} else ""


def when(time: datetime | None) -> str:
    """Write a time in full, in UTC."""
    return f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if time else ""


def ago(time: datetime | None) -> str:
    """Write how long ago something was."""
    if time is None:
        return "never"
    seconds = max((datetime.now(UTC) - time).total_seconds(), 0)
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            count = int(seconds // length)
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def took(seconds: float | None) -> str:
    """Write a duration."""
    if seconds is None:
        return ""
    return f"{seconds:.1f} s" if seconds < 60 else f"{int(seconds // 60)} min {int(seconds % 60)} s"
