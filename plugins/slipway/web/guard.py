"""Against forged requests: a page of somebody else's must not use the login cookie of who looks at it.

Airflow's cookie is `SameSite=Lax`, which keeps it out of other sites' POSTs in today's browsers. This does not lean on
that alone: with the cookie as the only credential, a request that changes something must come from this origin, as its
`Origin` or `Sec-Fetch-Site` says; and bodies must be JSON, which no HTML form can send. Clients that are no browsers
send neither header, and a bearer token needs no such check, because no page can make a browser add one.
"""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlsplit

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, HTTPException
from starlette.requests import Request

__all__ = ["SameOrigin"]

_OURS = {"same-origin", "none"}


def _check_origin(request: Request, _user: Annotated[object, Depends(get_user)]) -> None:
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return
    site = request.headers.get("sec-fetch-site")
    if site is not None and site not in _OURS:
        raise HTTPException(403, "The request comes from another site's page: call with a bearer token instead.")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc not in _own_hosts(request):
        raise HTTPException(403, f"Origin '{origin[:100]}' is not this server's: call with a bearer token instead.")


def _own_hosts(request: Request) -> set[str]:
    from airflow.configuration import conf

    return {request.headers.get("host", ""), urlsplit(conf.get("api", "base_url", fallback="")).netloc} - {""}


SameOrigin = Depends(_check_origin)
