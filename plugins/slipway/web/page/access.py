"""Who may look, who may change what, and that a change comes from our own page.

Looking needs Airflow's permission to read DAGs, changing the permission to trigger the very DAG that makes the change;
Airflow's API checks that again when it is called with the user's own token. A change that has only the login cookie for
a credential must come from our origin (`slipway.web.guard`) and carry a token which only our pages know: an HMAC of the
user's name under Airflow's secret, so it needs no store and is the same on every API server.
"""

from __future__ import annotations

import hashlib
import hmac
from functools import cache
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, Header, HTTPException
from starlette.requests import Request

from slipway.web.guard import SameOrigin

__all__ = ["CHANGES", "LOOKS", "csrf_token", "may_trigger", "must_trigger"]

LOOKS = Depends(requires_access_dag("GET"))


@cache
def _secret() -> bytes:
    from airflow.api_fastapi.auth.tokens import get_signing_key

    return hashlib.sha256(b"slipway-csrf:" + get_signing_key("api", "secret_key").encode()).digest()


def csrf_token(user: GetUserDep) -> str:
    """Return what a page of this user must send with each change."""
    return hmac.new(_secret(), str(user.get_id()).encode(), hashlib.sha256).hexdigest()


def _check_token(request: Request, user: GetUserDep, x_csrf_token: Annotated[str, Header()] = "") -> None:
    if request.headers.get("authorization", "").lower().startswith("bearer "):
        return  # no page can make a browser add one
    if not hmac.compare_digest(x_csrf_token.encode(), csrf_token(user).encode()):
        raise HTTPException(403, "The request lacks this page's token: reload the page and try again.")


CHANGES = [SameOrigin, Depends(_check_token)]


def may_trigger(user: GetUserDep, dag_id: str) -> bool:
    """Whether Airflow lets the user trigger a DAG."""
    details = DagDetails(id=dag_id)
    return bool(
        get_auth_manager().is_authorized_dag(
            method="POST", access_entity=DagAccessEntity.RUN, details=details, user=user
        )
    )


def must_trigger(user: GetUserDep, dag_id: str) -> None:
    """Refuse who may not trigger a DAG, before any work is done.

    :raises HTTPException: 403.
    """
    if not may_trigger(user, dag_id):
        raise HTTPException(403, f"Your role in Airflow may look, but not run '{dag_id}': ask for one that may.")
