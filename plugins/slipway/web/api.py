"""The REST façade of the requirement: `/api/v1/workflow/…` on Airflow's own port, under Airflow's own permissions."""

from __future__ import annotations

import asyncio
import secrets
import time
from datetime import UTC, datetime
from typing import Annotated, Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Query
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slipway.errors import NotFound, SlipwayError
from slipway.web.core import AirflowRefusal, CoreApi, credential_of
from slipway.web.executions import CANCELLED, DAG, OVER, Execution, describe, split_id
from slipway.web.guard import SameOrigin
from slipway.workflows import catalog, graph, request
from slipway.workflows.definition import Definition, schema
from slipway.workflows.models import unknown_models

__all__ = ["make_app"]

_LONGEST_WAIT = 300
_POLL_SECONDS = 0.5
_CODES = {400: "BAD_REQUEST", 401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED", 404: "RESOURCE_DOES_NOT_EXIST",
          405: "BAD_REQUEST", 409: "RESOURCE_CONFLICT", 415: "UNSUPPORTED_MEDIA_TYPE",
          422: "INVALID_PARAMETER_VALUE"}  # fmt: skip


class FieldError(BaseModel):
    """What is wrong with one field."""

    field: str
    message: str


class Failure(BaseModel):
    """Every error has this body, MLflow's shape; `errors` is there when fields are wrong."""

    error_code: str
    message: str
    errors: list[FieldError] | None = None


class Workflow(BaseModel):
    """A workflow that can be executed."""

    workflowId: int  # noqa: N815
    name: str
    description: str
    parameters: list[dict[str, Any]]
    models: list[str]
    schedule: str | None
    links: dict[str, str]
    problems: list[str] = []


class Workflows(BaseModel):
    """All workflows, and the files that are none, each with its mistake."""

    workflows: list[Workflow]
    broken: dict[str, str]


def _may(method: Any, entity: DagAccessEntity | None = None) -> Any:
    return Depends(requires_access_dag(method, entity, DAG))


_RESPONSES: dict[int | str, dict[str, Any]] = {
    401: {"model": Failure, "description": "No token and no login cookie"},
    403: {
        "model": Failure,
        "description": "The login is invalid or expired, or does not allow that, or another site's page asks",
    },
}
_UNKNOWN: dict[int | str, dict[str, Any]] = {404: {"model": Failure, "description": "There is none of that id"}}


def make_app() -> FastAPI:
    """Return the app that the plugin mounts at `/api/v1`."""
    app = FastAPI(title="Slipway score workflows", version="1", description=__doc__ or "", responses=_RESPONSES)
    app.add_exception_handler(HTTPException, _on_http_error)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(AirflowRefusal, _on_refusal)
    app.add_exception_handler(NotFound, _on_unknown)
    app.add_exception_handler(request.WrongRequest, _on_wrong)
    _add_workflows(app)
    _add_executions(app)
    return app


def _add_workflows(app: FastAPI) -> None:
    @app.get("/workflow", tags=["workflow"], summary="List the workflows", dependencies=[_may("GET")])
    def list_workflows(http: Request) -> Workflows:
        """Every definition in the workflows' folder; a wrong file is told among `broken`."""
        found = catalog.load()
        listed = [_workflow(d, _base(http)) for _, (d, _) in sorted(found.definitions.items())]
        return Workflows(workflows=listed, broken={name: str(e) for name, e in found.broken.items()})

    @app.get("/workflow/schema", tags=["workflow"], summary="JSON Schema of definitions", dependencies=[_may("GET")])
    def get_schema() -> dict[str, Any]:
        """For editors: what a file in the workflows' folder may say."""
        return schema()

    @app.get("/workflow/{workflow_id}", tags=["workflow"], summary="One workflow", dependencies=[_may("GET")],
             responses=_UNKNOWN)  # fmt: skip
    def get_workflow(workflow_id: int, http: Request) -> Workflow:
        """Its parameters, models and schedule; `problems` has those of its models that are not registered."""
        definition = catalog.load().find(workflow_id)[0]
        problems = [str(problem) for problem in _unknown_models(definition)]
        return _workflow(definition, _base(http)).model_copy(update={"problems": problems})

    @app.get("/workflow/{workflow_id}/graph.svg", tags=["workflow"], summary="Picture of a workflow",
             dependencies=[_may("GET")], responses=_UNKNOWN, response_class=Response)  # fmt: skip
    def get_graph(workflow_id: int) -> Response:
        """Its nodes and what flows between them, as an SVG image."""
        picture = graph.svg(catalog.load().find(workflow_id)[0])
        # Should anybody open it as a page: an image needs nothing from anywhere.
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(picture, media_type="image/svg+xml", headers=headers)


def _add_executions(app: FastAPI) -> None:
    @app.post("/workflow/execute", tags=["execution"], summary="Execute a workflow", status_code=202,
              dependencies=[_may("POST", DagAccessEntity.RUN), SameOrigin, Depends(_is_json)],
              responses={**_UNKNOWN, 409: {"model": Failure, "description": "The DAG is paused in Airflow"},
                         422: {"model": Failure, "description": "Which field, which rule"}})  # fmt: skip
    async def execute(body: request.Execution, http: Request) -> Execution:
        """Check the request and start it as the calling user. It answers at once: ask the execution for its end."""
        definition = (await run_in_threadpool(catalog.load)).find(body.workflowId)[0]
        fields = body.model_dump(exclude={"workflowId"})
        await run_in_threadpool(request.check, definition, fields)
        if problems := await run_in_threadpool(_unknown_models, definition):
            raise request.WrongRequest(problems)
        run_id = f"wf{body.workflowId}-{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(4)}"
        core = CoreApi(credential_of(http))
        run = await core.trigger(DAG, run_id, body.model_dump())
        return await describe(core, run_id, run, _base(http))

    @app.get("/workflow/execution/{execution_id}", tags=["execution"], summary="State of an execution",
             dependencies=[_may("GET", DagAccessEntity.RUN)], responses=_UNKNOWN)  # fmt: skip
    async def get_execution(
        execution_id: str,
        http: Request,
        wait: Annotated[float, Query(ge=0, le=_LONGEST_WAIT, description="Seconds to wait for its end.")] = 0,
    ) -> Execution:
        """State, counts, outputs and error; with `wait`, as soon as it is over or the time is up."""
        core = CoreApi(credential_of(http))
        deadline = time.monotonic() + wait
        while True:
            run = await core.run(*split_id(execution_id))
            left = deadline - time.monotonic()
            if run["state"] in OVER or left <= 0 or await http.is_disconnected():
                return await describe(core, execution_id, run, _base(http))
            await asyncio.sleep(min(_POLL_SECONDS, left))

    @app.delete("/workflow/execution/{execution_id}", tags=["execution"], summary="Cancel an execution",
                dependencies=[_may("PUT", DagAccessEntity.RUN), SameOrigin],
                responses={**_UNKNOWN, 409: {"model": Failure, "description": "It is over"}})  # fmt: skip
    async def cancel_execution(execution_id: str, http: Request, user: GetUserDep) -> Execution:
        """Stop Spark and end the run; nothing of it is published. What is over cannot be cancelled."""
        core = CoreApi(credential_of(http))
        dag, run_id = split_id(execution_id)
        run = await core.run(dag, run_id)
        if run["state"] in OVER:
            raise HTTPException(
                409, f"Execution '{execution_id}' is over ({run['state']}): there is nothing to cancel."
            )
        cancelled = await core.cancel(dag, run_id, f"{CANCELLED}{user.get_name()} through the API.")
        return await describe(core, execution_id, cancelled, _base(http))


def _is_json(http: Request) -> None:
    kind = http.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise HTTPException(415, f"Content type '{kind[:80]}' is not taken: send application/json.")


def _unknown_models(definition: Definition) -> list[catalog.Problem]:
    """What MLflow does not have of a definition's models; where it does not answer, an execution will find out."""
    from slipway.web.page.models import PageMlflow

    try:
        return unknown_models(definition, PageMlflow())
    except SlipwayError:
        return []


def _workflow(definition: Definition, base: str) -> Workflow:
    own = f"{base}/api/v1/workflow/{definition.id}"
    return Workflow(
        workflowId=definition.id,
        name=definition.name,
        description=definition.description,
        parameters=[parameter.model_dump(mode="json") for parameter in definition.parameters],
        models=sorted(definition.models),
        schedule=definition.schedule.cron if definition.schedule else None,
        links={"self": own, "graph": f"{own}/graph.svg"},
    )


def _base(http: Request) -> str:
    from airflow.configuration import conf

    configured: str = conf.get("api", "base_url", fallback="")
    return (configured or f"{http.url.scheme}://{http.url.netloc}").rstrip("/")


def _failed(status: int, message: str, errors: list[dict[str, str]] | None = None) -> JSONResponse:
    body: dict[str, Any] = {"error_code": _CODES.get(status, "INTERNAL_ERROR"), "message": message}
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
    return JSONResponse(body | ({"errors": errors} if errors else {}), status_code=status, headers=headers)


async def _on_http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101  # as registered
    return _failed(error.status_code, str(error.detail))


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101
    problems = catalog.problems_of(error.errors())
    errors = [{"field": p.field.removeprefix("body.") or "body", "message": p.message} for p in problems]
    return _failed(422, "; ".join(f"{e['field']}: {e['message']}" for e in errors), errors)


async def _on_wrong(_: Request, error: Exception) -> Response:
    assert isinstance(error, request.WrongRequest)  # noqa: S101
    return _failed(422, str(error), [{"field": p.field, "message": p.message} for p in error.problems])


async def _on_unknown(_: Request, error: Exception) -> Response:
    return _failed(404, str(error))


async def _on_refusal(_: Request, error: Exception) -> Response:
    assert isinstance(error, AirflowRefusal)  # noqa: S101
    return _failed(error.status, error.reason)
