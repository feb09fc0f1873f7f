"""A run as it goes on, and Retry."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException
from starlette.requests import Request
from starlette.responses import Response

from slipway.web.page.access import CHANGES, may_trigger, must_trigger
from slipway.web.page.airflow import ACTIONS, TARGETS
from slipway.web.page.context import airflow_of
from slipway.web.page.progress import Progress, follow
from slipway.web.page.render import is_fragment, page, root

router = APIRouter()
_WORKFLOWS = ("score_workflow", "scheduled_scoring__")


@router.get("/runs/{dag_id}/{run_id:path}")
async def show_run(request: Request, user: GetUserDep, dag_id: str, run_id: str) -> Response:
    """Return a run's page, or for htmx only what changes while it goes on."""
    airflow = airflow_of(request)
    run = await airflow.one(_known(dag_id), run_id)
    if run is None:
        raise HTTPException(404, f"Airflow has no run '{run_id[:200]}' of '{dag_id[:60]}'.")
    progress = await follow(airflow, run)
    subject = run.model or (progress.result or {}).get("name")
    values = {
        "progress": progress,
        "run": run,
        "subject": subject,
        "next": _next(request, progress, subject),
        "may_retry": may_trigger(user, dag_id),
        "workflow": run.conf.get("workflowId") if dag_id.startswith(_WORKFLOWS) else None,
    }
    return page(request, "run_steps.html" if is_fragment(request) else "run.html", values, user=user)


@router.post("/retry/{dag_id}/{run_id:path}", dependencies=CHANGES)
async def retry(request: Request, user: GetUserDep, dag_id: str, run_id: str) -> Response:
    """Start a failed run's action again with the same conf.

    A new run, and not the failed tasks of the old one: a failed action has cleaned up after itself, so its later steps
    would find nothing to go on with. Every action can be repeated.
    """
    must_trigger(user, _known(dag_id))
    airflow = airflow_of(request)
    run = await airflow.one(dag_id, run_id)
    if run is None or run.state != "failed":
        raise HTTPException(409, "Only a run that failed can be tried again.")
    if run.model:
        going = (await airflow.runs()).active().get(run.model)
        if going:
            raise HTTPException(409, f"'{going.title}' is {going.state} for this model: wait for its end.")
    subject = run.model or run_id.rpartition("-")[0] or "retry"
    started = await airflow.start(dag_id, subject, run.conf)
    return Response(headers={"HX-Redirect": f"{root(request)}/runs/{dag_id}/{started}"})


def _known(dag_id: str) -> str:
    if dag_id not in ACTIONS and not dag_id.startswith(_WORKFLOWS):
        raise HTTPException(404, f"'{dag_id[:60]}' is none of Slipway's actions.")
    return dag_id


def _next(request: Request, progress: Progress, subject: Any) -> list[tuple[str, str]]:
    """Return what one would do after a run that succeeded: labels and addresses."""
    run, base = progress.run, root(request)
    if run.state != "success" or not subject:
        return []
    model = f"{base}/models/{subject}"
    steps = [(f"Open {subject}", model)]
    verb, _, target = run.dag_id.partition("_")
    if run.dag_id == "import_bundle":
        return [("Register it", f"{model}?do=register_model"), *steps]
    if run.dag_id == "register_model":
        return [("Deploy it", f"{model}?do=deploy_mlflow"), *steps]
    if verb == "deploy" and target in TARGETS and progress.result:
        return [("Open the endpoint", f"{model}/endpoints/{target}/{progress.result['endpoint']}"), *steps]
    return steps
