"""The list of models."""

from __future__ import annotations

import asyncio

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from slipway.errors import SlipwayError
from slipway.web.page import models
from slipway.web.page.airflow import Runs
from slipway.web.page.context import airflow_of, our_dags
from slipway.web.page.listing import SORTS, STATES, BadCursor, Listing, Query, list_bundles, list_models
from slipway.web.page.parts import ask
from slipway.web.page.render import is_fragment, page

router = APIRouter()


@router.get("/")
@router.get("/models")
async def show_list(request: Request, user: GetUserDep) -> Response:
    """Return the list, or only its rows for htmx."""
    airflow = airflow_of(request)
    query = Query.of(request.query_params)
    dags, runs = await asyncio.gather(our_dags(airflow, user), airflow.runs())
    asked = await ask("MLflow", _list, query, runs)
    listing = asked.value
    if isinstance(listing, BadCursor):
        raise listing
    if listing is None:
        again = await ask("The bundle store", _bundles, query, runs, asked.error or "")
        listing = again.value or Listing(query, (), None, again.error or asked.error)
    values = {
        "listing": listing,
        "query": query,
        "states": STATES,
        "sorts": SORTS,
        "may_import": "import_bundle" in dags and dags["import_bundle"].may_run,
        "can_import": "import_bundle" in dags,
        "busy": any(row.active for row in listing.rows),
    }
    template = "list_rows.html" if is_fragment(request) else "list.html"
    return page(request, template, values, user=user)


def _list(query: Query, runs: Runs) -> Listing | BadCursor:
    try:
        return list_models(models.mlflow(), models.bundle_store(), query, runs)
    except BadCursor as e:
        return e


def _bundles(query: Query, runs: Runs, error: str) -> Listing:
    try:
        return list_bundles(models.bundle_store(), query, runs, error)
    except (OSError, SlipwayError) as e:
        return Listing(query, (), None, f"{error} {e}")
