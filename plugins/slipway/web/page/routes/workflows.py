"""Score workflows: what there is, a form to run one, and what came of it before."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter
from markupsafe import Markup
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from slipway.web.executions import DAG, SCHEDULED_PREFIX, Execution, describe
from slipway.web.page import forms
from slipway.web.page.access import CHANGES, must_trigger
from slipway.web.page.airflow import Airflow, Run
from slipway.web.page.context import airflow_of, our_dags
from slipway.web.page.forms import Field
from slipway.web.page.render import airflow_root, page, root
from slipway.workflows import catalog, graph
from slipway.workflows import request as workflow_request
from slipway.workflows.definition import Definition

router = APIRouter()
_PARAMETER = "parameter:"
_SHOWN = 10


@router.get("/workflows")
async def show_workflows(request: Request, user: GetUserDep) -> Response:
    """Return the list of workflows."""
    found = await run_in_threadpool(catalog.load)
    definitions = [definition for _, (definition, _) in sorted(found.definitions.items())]
    values = {"definitions": definitions, "broken": {name: str(e) for name, e in found.broken.items()}}
    return page(request, "workflows.html", values, user=user)


@router.get("/workflows/{workflow_id}")
async def show_workflow(request: Request, user: GetUserDep, workflow_id: int) -> Response:
    """Return a workflow's page."""
    definition = await run_in_threadpool(_find, workflow_id)
    airflow = airflow_of(request)
    dag = (await our_dags(airflow, user)).get(DAG)
    fields = _fields(definition, await airflow.params(DAG), {}, {}) if dag else []
    values = {
        "definition": definition,
        "graph": Markup(graph.svg(definition)),  # noqa: S704  # made by us, which escapes what it draws
        "fields": fields,
        "why_not": dag.refusal if dag else "",
        "errors": {},
    }
    return page(request, "workflow.html", values, user=user)


@router.get("/workflows/{workflow_id}/executions")
async def show_executions(request: Request, user: GetUserDep, workflow_id: int) -> Response:
    """Return a workflow's past executions with their counts, for htmx."""
    definition = await run_in_threadpool(_find, workflow_id)
    airflow = airflow_of(request)
    scheduled = [dag_id for dag_id in await our_dags(airflow, user) if dag_id.startswith(SCHEDULED_PREFIX)]
    runs = await airflow.runs([DAG, *scheduled])
    ours = [run for run in runs.newest_first if run.conf.get("workflowId") == workflow_id or _is_of(run, definition)]
    shown = ours[:_SHOWN]
    executions = await asyncio.gather(*(_execution(request, airflow, run) for run in shown))
    values = {"executions": list(zip(shown, executions, strict=True)), "busy": any(run.active for run in shown),
              "definition": definition}  # fmt: skip
    return page(request, "executions.html", values, user=user)


@router.post("/workflows/{workflow_id}/run", dependencies=CHANGES)
async def run_workflow(request: Request, user: GetUserDep, workflow_id: int) -> Response:
    """Start a workflow as the user; the answer sends the browser to the run."""
    must_trigger(user, DAG)
    definition = await run_in_threadpool(_find, workflow_id)
    airflow = airflow_of(request)
    params = await airflow.params(DAG)
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    values = {name.removeprefix(_PARAMETER): v for name, v in form.items() if name.startswith(_PARAMETER) and v}
    posted = {**form, "workflowId": str(workflow_id), "programParameters": json.dumps(values) if values else ""}
    conf, errors = forms.parse(params, posted)
    try:
        await run_in_threadpool(workflow_request.check, definition, conf)
    except workflow_request.WrongRequest as e:
        errors |= {problem.field: problem.message for problem in e.problems}
    if errors:
        again = {"definition": definition, "fields": _fields(definition, params, form, errors), "why_not": "",
                 "errors": errors}  # fmt: skip
        return page(request, "workflow_form.html", again, user=user, status=422)
    run_id = await airflow.start(DAG, f"workflow-{workflow_id}", conf)
    return Response(headers={"HX-Redirect": f"{root(request)}/runs/{DAG}/{run_id}"})


def _find(workflow_id: int) -> Definition:
    return catalog.load().find(workflow_id)[0]


def _fields(
    definition: Definition, params: dict[str, dict[str, Any]], form: dict[str, str], errors: dict[str, str]
) -> list[Field]:
    """Return a field for each of the workflow's parameters, and the DAG's other params."""
    own = []
    for parameter in definition.parameters:
        name = f"{_PARAMETER}{parameter.name}"
        default = "" if parameter.default is None else str(parameter.default)
        text = f"{parameter.description} ({parameter.type})".strip()
        own.append(Field(name, parameter.name, text, "text", form.get(name, default), parameter.required))
    rest = {name: param for name, param in params.items() if name not in {"workflowId", "programParameters"}}
    return [*own, *forms.fields(rest, form, errors=errors)]


async def _execution(request: Request, airflow: Airflow, run: Run) -> Execution:
    base = airflow_root(request)
    execution = run.run_id if run.dag_id == DAG else f"{run.dag_id}:{run.run_id}"
    return await describe(airflow, execution, await airflow.run(run.dag_id, run.run_id), base)


def _is_of(run: Run, definition: Definition) -> bool:
    return run.dag_id == f"{SCHEDULED_PREFIX}{definition.name.replace('-', '_')}"
