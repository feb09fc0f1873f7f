"""`make demo`: the stack up, the breast-cancer bundle from zip to endpoint, and its published samples run for real."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx

from slipway.golden import first_difference
from slipway_stack import lifecycle
from slipway_stack.actions import Actions
from slipway_stack.airflow_api import AirflowClient
from slipway_stack.console import Console
from slipway_stack.errors import StackError
from slipway_stack.keys import LOGIN, keys
from slipway_stack.samples import run_curl, run_python
from slipway_stack.settings import CHECKOUT, Stack

NAME = "breast-cancer"
_BUNDLE = CHECKOUT / "build" / "bundles" / f"{NAME}.zip"
_ACTIONS = ("import_bundle", "register_model", "deploy_mlflow")
# As the deploy itself compares: labels exactly, floats up to this relative difference.
_TOLERANCE = 1e-6


def demo(stack: Stack, console: Console) -> None:
    """Bring everything up and show it; what an earlier demo made is shown again and left as it is.

    Raises `StackError` where a step fails.
    """
    if not _BUNDLE.exists():
        raise StackError(f"{_BUNDLE} is not there: run `make bundles` first.")
    lifecycle.up(stack, console)
    with lifecycle.client(stack) as airflow:
        actions = Actions(stack, airflow, console)
        actions.wait_for_dags(_ACTIONS)
        # The run's id says which bundle it was for: only a demo of this very zip counts as done before.
        prefix = f"demo-{hashlib.sha256(_BUNDLE.read_bytes()).hexdigest()[:12]}-"
        published = _published_before(stack, airflow, prefix)
        if published:
            console.done(f"{NAME} is deployed already, as version {published['version']}")
        else:
            published = _from_zip_to_endpoint(actions, prefix)
            _check(stack, published, console)
    console.done("the samples answer as the model did when it was imported")
    _show(stack, published, console)


def _published_before(stack: Stack, airflow: AirflowClient, prefix: str) -> dict[str, Any] | None:
    """What the last demo of the same zip published, if its endpoint still answers as it should."""
    runs = [run for run in airflow.runs("deploy_mlflow") if run.run_id.startswith(prefix) and run.state == "success"]
    if not runs:
        return None
    published = dict(airflow.xcom(runs[0], "publish"))
    try:
        _check(stack, published, None)
    except StackError:
        return None
    return published


def _from_zip_to_endpoint(actions: Actions, prefix: str) -> dict[str, Any]:
    """Run the three actions, each with what the one before it answered."""
    airflow, console = actions.airflow, actions.console
    number = 1 + sum(run.run_id.startswith(prefix) for run in airflow.runs("import_bundle", limit=100))
    run_id = f"{prefix}{number}"
    imported = actions.run("import_bundle", {"bundle_uri": _BUNDLE.as_uri(), "name": NAME}, run_id)
    digest = airflow.xcom(imported, "store")["digest"]
    console.done(f"the bundle store has {NAME} as {digest[:12]}…")
    # As champion: the sample score workflows score with that.
    registered = actions.run("register_model", {"name": NAME, "bundle": digest, "alias": "champion"}, run_id)
    version = airflow.xcom(registered, "register")
    console.done(f"MLflow has it as {version['model']} version {version['version']}")
    deployed = actions.run("deploy_mlflow", {"model": version["model"], "version": version["version"]}, run_id)
    return dict(airflow.xcom(deployed, "publish"))


def _check(stack: Stack, published: dict[str, Any], console: Console | None) -> None:
    """Run the published samples and compare their answers with the golden output."""
    expected = _golden_output(stack, published["model"], published["version"])
    for language, run in (("curl", run_curl), ("Python", run_python)):
        actual = run(published["samples"][language.lower()])
        if actual is None:
            if console:
                console.line("curl is not installed here, so only the Python sample is run.")
            continue
        if difference := first_difference(expected, actual, _TOLERANCE):
            raise StackError(f"The {language} sample answers otherwise than the model at its import: {difference}.")
        if console:
            console.done(f"the {language} sample gives {json.dumps(actual)}")


def _golden_output(stack: Stack, model: str, version: str) -> Any:
    """What the model answered to its sample when it was imported; MLflow keeps it with the model."""
    query = {"name": model, "version": version, "path": "slipway/manifest.json"}
    response = httpx.get(f"{stack.url('mlflow')}/model-versions/get-artifact", params=query, timeout=30.0)
    if response.is_error:
        raise StackError(f"MLflow does not give the golden sample of {model} {version}: {response.text[:200]}")
    return response.json()["golden"]["output"]


def _show(stack: Stack, published: dict[str, Any], console: Console) -> None:
    samples = published["samples"]
    console.line()
    console.line(f"Endpoint   {published['url']}   ({published['model']} version {published['version']})")
    # Not indented: Python code that is would not run where it is pasted.
    for title, code in (("in a shell", samples["curl"]), ("in Python", samples["python"])):
        console.line(f"\n── {title} " + "─" * (60 - len(title)))
        console.line(code.strip("\n"))
    console.line("─" * 64)
    console.line()
    console.line(f"Airflow    {stack.url('airflow')}   login {LOGIN}, password {keys(stack).password}")
    console.line(f"Models     {stack.url('airflow')}/plugin/models   all of it by clicks")
    console.line(f"MLflow     {stack.url('mlflow')}")
    console.line(f"Logs       {_short(stack.logs)}")
    console.line("\nThe stack stays up: `make status` tells how it is, `make stop` ends it.")


def _short(path: Path) -> str:
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)
