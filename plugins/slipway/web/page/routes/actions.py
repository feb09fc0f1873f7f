"""The actions menu's forms, and the start of their runs."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException
from starlette.datastructures import FormData
from starlette.requests import Request
from starlette.responses import Response

from slipway.web.page import forms
from slipway.web.page.access import CHANGES, must_trigger
from slipway.web.page.actions import Action, find
from slipway.web.page.airflow import busy
from slipway.web.page.context import About, about, airflow_of
from slipway.web.page.effects import effects
from slipway.web.page.forms import Choice
from slipway.web.page.models import Model
from slipway.web.page.render import page, root

router = APIRouter()
# So that of two who press a button in the same moment, the second finds the first one's run.
_starting: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)


@router.get("/models/{name}/actions/{action_id}")
async def show_form(request: Request, user: GetUserDep, name: str, action_id: str) -> Response:
    """Return the form of an action, for htmx; the query presets fields."""
    found = await about(request, user, name)
    action = _chosen(found, action_id)
    params = await airflow_of(request).params(action.dag_id)
    preset = {**action.preset, **{k: v for k, v in request.query_params.items() if k in params}}
    return page(request, "form.html", _form(found, action, params, preset, {}), user=user)


@router.post("/models/{name}/actions/{action_id}/check", dependencies=CHANGES)
async def check_form(request: Request, user: GetUserDep, name: str, action_id: str) -> Response:
    """Return what is wrong with a form that is being filled in, and what it would do."""
    found = await about(request, user, name)
    action = _chosen(found, action_id)
    params = await airflow_of(request).params(action.dag_id)
    conf, errors = forms.parse(params, _text(await request.form()))
    lines = [] if errors else effects(action.dag_id, conf, found.model)
    return page(request, "form_check.html", {"errors": errors, "effects": lines, "params": params}, user=user)


@router.post("/models/{name}/actions/{action_id}", dependencies=CHANGES)
async def start(request: Request, user: GetUserDep, name: str, action_id: str) -> Response:
    """Start an action as the user; the answer sends the browser to the run."""
    async with _starting[name]:
        found = await about(request, user, name)
        action = _chosen(found, action_id)
        must_trigger(user, action.dag_id)
        if not action.enabled:
            raise HTTPException(409, action.why)
        airflow = airflow_of(request)
        params = await airflow.params(action.dag_id)
        posted = _text(await request.form())
        conf, errors = forms.parse(params, posted)
        for field in _fixed(action):
            if conf.get(field) != action.preset[field]:
                errors[field] = "This is not the model of this page: reload it."
        if errors:
            again = _form(found, action, params, posted, errors)
            return page(request, "form.html", again, user=user, status=422)
        run_id = await airflow.start_alone(action.dag_id, name, conf)
    return Response(headers={"HX-Redirect": f"{root(request)}/runs/{action.dag_id}/{run_id}"})


def _chosen(found: About, action_id: str) -> Action:
    if action_id == "set_alias":
        return _alias(found)
    action = find(found.menu, action_id)
    if action is None:
        raise HTTPException(404, f"There is no action '{action_id[:60]}': its DAG is not in this Airflow.")
    return action


def _alias(found: About) -> Action:
    """Return the action behind a version's "make champion", which is not in the menu."""
    dag = found.dags.get("set_alias")
    if dag is None:
        raise HTTPException(404, "There is no action 'set_alias': its DAG is not in this Airflow.")
    why = dag.refusal or ("" if found.model.versions else "Only a registered model has aliases.")
    if found.active and not why:
        why = busy(found.active)
    return Action("set_alias", "Set alias", "set_alias", why, {"model": found.model.name})


def _form(
    found: About,
    action: Action,
    params: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any],
    errors: Mapping[str, str],
) -> dict[str, Any]:
    """Return what the template of a form shows."""
    given = {name: param.get("value") for name, param in params.items()} | dict(values)
    conf, _ = forms.parse(params, {name: _posted(value) for name, value in given.items()})
    choices = _choices(found.model, action.dag_id)
    return {
        "model": found.model,
        "action": action,
        "fields": forms.fields(params, values, fixed=_fixed(action), choices=choices, errors=errors),
        "effects": effects(action.dag_id, conf, found.model),
    }


def _fixed(action: Action) -> frozenset[str]:
    return frozenset({"model", "name", "force"} & set(action.preset))


def _choices(model: Model, dag_id: str) -> dict[str, list[Choice]]:
    """Return what a model's own facts offer for a DAG's text fields."""
    verb, _, target = dag_id.partition("_")
    shown = [version for version in model.versions if version.deployable or dag_id == "set_alias"]
    choices = {"version": [Choice(version.number, _with_aliases(version.number, model)) for version in shown]}
    if dag_id != "set_alias":
        choices["version"].insert(0, Choice("", "The newest"))
    if verb == "deploy":
        aliases = [Choice(alias, f"{alias} (version {number})") for alias, number in sorted(model.aliases.items())]
        choices["alias"] = [Choice("", "(none)"), *aliases]
    if verb == "undeploy":
        choices["endpoint"] = [Choice(r.endpoint, r.endpoint) for r in model.deployments if r.target == target]
    if dag_id == "register_model":
        choices["bundle"] = [
            Choice(b.digest, f"{b.digest[:12]}, imported {b.imported_at:%F %H:%M}") for b in model.bundles
        ]
    return {name: options for name, options in choices.items() if options}


def _with_aliases(number: str, model: Model) -> str:
    aliases = ", ".join(alias for alias, of in sorted(model.aliases.items()) if of == number)
    return f"{number} ({aliases})" if aliases else number


def _posted(value: object) -> str:
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _text(form: FormData) -> dict[str, str]:
    return {name: value for name, value in form.items() if isinstance(value, str)}
