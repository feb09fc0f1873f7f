"""Airflow's own REST API, called inside this very process with the caller's own credential.

So every permission, validation and audit entry is Airflow's, and no password of a service account lies about.
Source of the protocol: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import httpx
from airflow.api_fastapi.auth.managers.base_auth_manager import COOKIE_NAME_JWT_TOKEN
from starlette.requests import Request

__all__ = ["AirflowRefusal", "CoreApi", "Paused", "credential_of", "paused"]

_API = "/api/v2"


class AirflowRefusal(Exception):
    """Airflow answered with an error: its status, and its reason."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status
        self.reason = reason


def credential_of(request: Request) -> str:
    """Return the caller's token: the bearer token if there is one, else the login cookie's, as Airflow chooses."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else request.cookies.get(COOKIE_NAME_JWT_TOKEN, "")


class Paused(AirflowRefusal):
    """A DAG is paused, so that a run of it would wait until somebody switches it on."""

    def __init__(self, dag_id: str) -> None:
        super().__init__(httpx.codes.CONFLICT, paused(dag_id))


def paused(dag_id: str) -> str:
    """Say that nothing can be started because a DAG is paused."""
    return f"DAG '{dag_id}' is paused in Airflow: switch it on there first."


class CoreApi:
    """Calls Airflow's REST API as one user.

    :param token: the user's token.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    async def trigger(self, dag_id: str, run_id: str, conf: dict[str, Any]) -> dict[str, Any]:
        """Start a run of a DAG and return it.

        :raises Paused: if the DAG is: Airflow would take the run, and not begin it.
        """
        await self.refuse_paused(dag_id)
        body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
        return dict(await self._call("POST", f"/dags/{quote(dag_id)}/dagRuns", json=body))

    async def refuse_paused(self, dag_id: str) -> None:
        """Refuse what would wait until somebody switches a DAG on.

        :raises Paused: if it is off.
        """
        if (await self._call("GET", f"/dags/{quote(dag_id, safe='')}"))["is_paused"]:
            raise Paused(dag_id)

    async def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """Return a run."""
        return dict(await self._call("GET", _run_path(dag_id, run_id)))

    async def cancel(self, dag_id: str, run_id: str, note: str) -> dict[str, Any]:
        """Mark a run as failed, which stops its tasks."""
        body = {"state": "failed", "note": note}
        return dict(await self._call("PATCH", _run_path(dag_id, run_id), json=body))

    async def tasks(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """Return a run's task instances."""
        found = await self._call("GET", f"{_run_path(dag_id, run_id)}/taskInstances")
        return list(found["task_instances"])

    async def xcom(self, dag_id: str, run_id: str, task: str, key: str) -> Any:
        """Return what a task left under a key, or None."""
        try:
            path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task)}/xcomEntries/{quote(key)}"
            return (await self._call("GET", path, params={"deserialize": "false"}))["value"]
        except AirflowRefusal as e:
            if e.status == httpx.codes.NOT_FOUND:
                return None
            raise

    async def _call(self, method: str, path: str, **options: Any) -> Any:
        from airflow.api_fastapi.main import app

        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        headers = {"Authorization": f"Bearer {self._token}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://airflow", headers=headers) as client:
            response = await client.request(method, f"{_API}{path}", **options)
        if response.is_error:
            raise AirflowRefusal(response.status_code, _reason(response))
        return response.json() if response.content else None


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id, safe='')}/dagRuns/{quote(run_id, safe='')}"


def _reason(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return f"Airflow answers HTTP {response.status_code}."
    return (
        detail if isinstance(detail, str) else str(detail.get("reason", detail) if isinstance(detail, dict) else detail)
    )
