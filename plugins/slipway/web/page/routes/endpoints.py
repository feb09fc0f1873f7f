"""One endpoint: its record, its health, its sample code, its figures, and a prediction to try."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from typing import Any, TypeVar

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slipway.domain import DeploymentRecord
from slipway.samples.render import example_payload
from slipway.web.core import AirflowRefusal
from slipway.web.page import endpoint as live
from slipway.web.page.access import CHANGES, may_trigger, must_trigger
from slipway.web.page.airflow import TARGETS
from slipway.web.page.context import About, about, airflow_of, deployment_of, manifest_of
from slipway.web.page.parts import Part, ask
from slipway.web.page.render import page

router = APIRouter(prefix="/models/{name}/endpoints/{target}/{endpoint}")
_KINDS = {"curl": "curl", "python": "Python", "boto3": "boto3", "cli": "Command line"}
_TRY_SECONDS = 60.0
Value = TypeVar("Value")


@router.get("")
async def show_endpoint(request: Request, user: GetUserDep, name: str, target: str, endpoint: str) -> Response:
    """Return an endpoint's page."""
    found, record = await _endpoint(request, user, name, target, endpoint)
    version = found.model.version(record.version)
    manifest = await manifest_of(version) if version else None
    dag_id, _, run_id = record.run.partition("/")
    published: dict[str, Any] = {}
    if dag_id == f"deploy_{target}":
        with suppress(AirflowRefusal):  # samples are left out for who may not read them
            published = await airflow_of(request).xcom(dag_id, run_id, "publish", "return_value") or {}
    samples = {kind: code for kind in _KINDS if (code := (published.get("samples") or {}).get(kind))}
    payload = example_payload(manifest.value) if manifest and manifest.value else None
    values = {
        "about": found,
        "model": found.model,
        "record": record,
        "counted": record.target in live.COUNTED,
        "version": version,
        "samples": samples,
        "kinds": _KINDS,
        "sample": live.sample_text(payload),
        "sample_error": manifest.error if manifest else None,
        "may_try": may_trigger(user, f"deploy_{target}"),
        "dag_id": dag_id,
        "run_id": run_id,
    }
    return page(request, "endpoint.html", values, user=user)


@router.get("/health")
async def show_health(request: Request, user: GetUserDep, name: str, target: str, endpoint: str) -> Response:
    """Return how the endpoint is now, for htmx."""
    _, record = await _endpoint(request, user, name, target, endpoint)
    asked = await _ask(request, TARGETS[target], live.health, record, seconds=15.0)
    return page(request, "health.html", {"health": asked.value, "error": asked.error})


@router.get("/figures")
async def get_figures(request: Request, user: GetUserDep, name: str, target: str, endpoint: str) -> Response:
    """Return what the scoring server has counted, as JSON for the chart."""
    _, record = await _endpoint(request, user, name, target, endpoint)
    asked = await _ask(request, TARGETS[target], live.figures, record)
    if asked.value is None:
        return JSONResponse({"error": asked.error}, 503)
    return JSONResponse(asdict(asked.value))


@router.post("/try", dependencies=CHANGES)
async def try_it(request: Request, user: GetUserDep, name: str, target: str, endpoint: str) -> Response:
    """Send an input to the endpoint and return the predictions, for htmx.

    Asks for the permission to deploy there: it is the server's own credentials that are used.
    """
    _, record = await _endpoint(request, user, name, target, endpoint)
    must_trigger(user, f"deploy_{target}")
    text = (await request.form()).get("input")
    body = text if isinstance(text, str) else ""
    asked = await _ask(request, f"Trying {TARGETS[target]}", live.try_it, record, body, seconds=_TRY_SECONDS)
    return page(request, "answer.html", {"answer": asked.value, "error": asked.error})


async def _ask(
    request: Request,
    service: str,
    function: Callable[..., Value],
    record: DeploymentRecord,
    *arguments: str,
    seconds: float = 8.0,
) -> Part[Value]:
    """Ask the target of an endpoint, over the connection that it was deployed with."""
    try:
        conn_id = await _connection(request, record)
    except AirflowRefusal as e:
        return Part(error=f"Airflow does not say over which connection it was deployed ({e.reason}).")
    return await ask(service, function, record, conn_id, *arguments, seconds=seconds)


async def _connection(request: Request, record: DeploymentRecord) -> str:
    """Return the target's connection: the one that the run which deployed was told, where Airflow still knows it."""
    dag_id, _, run_id = record.run.partition("/")
    if dag_id == f"deploy_{record.target}":  # a record is a tag, which others can write
        plan = await airflow_of(request).xcom(dag_id, run_id, "resolve", "return_value")
        if isinstance(plan, dict) and plan.get("conn_id"):
            return str(plan["conn_id"])
    return live.CONNECTIONS[record.target]


async def _endpoint(
    request: Request, user: GetUserDep, name: str, target: str, endpoint: str
) -> tuple[About, DeploymentRecord]:
    found = await about(request, user, name)
    if found.mlflow_error:
        raise HTTPException(503, found.mlflow_error)
    return found, deployment_of(found.model, target, endpoint)
