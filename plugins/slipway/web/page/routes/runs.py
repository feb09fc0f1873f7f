"""A run as it goes on, and Retry."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException
from starlette.requests import Request
from starlette.responses import Response

from slipway.web.page.access import CHANGES, may_trigger, must_trigger
from slipway.web.page.airflow import ACTIONS, TARGETS, Run
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
    subject = (progress.result or {}).get("name") or run.model
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
    would find nothing to go on with. Every action can be repeated. What a schedule, a backfill or an asset has started
    begins anew as the same run, all of it, because a new one would be about another data interval.
    """
    must_trigger(user, _known(dag_id))
    airflow = airflow_of(request)
    run = await airflow.one(dag_id, run_id)
    if run is None or run.state != "failed":
        raise HTTPException(409, "Only a run that failed can be tried again.")
    if not run.manual:
        await airflow.again(dag_id, run_id)
        started = run_id
    elif run.model:
        started = await airflow.start_alone(dag_id, run.model, run.conf)
    else:
        started = await airflow.start(dag_id, _subject(run), run.conf)
    return Response(headers={"HX-Redirect": f"{root(request)}/runs/{dag_id}/{quote(started, safe='')}"})


def _subject(run: Run) -> str:
    """Return what a run that is about no model is called after."""
    workflow = run.conf.get("workflowId")
    return f"workflow-{workflow}" if workflow else run.dag_id


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
