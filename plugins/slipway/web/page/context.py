"""What the pages about one model have in common: the model, our DAGs, its runs, and what could not be asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import HTTPException
from starlette.requests import Request

from slipway.domain import DeploymentRecord, ModelManifest
from slipway.registry import Registry
from slipway.web.core import credential_of
from slipway.web.page import models
from slipway.web.page.access import may_trigger
from slipway.web.page.actions import Group, menu
from slipway.web.page.airflow import Airflow, Dag, Run
from slipway.web.page.models import Bundle, Model, Version
from slipway.web.page.parts import Part, ask

__all__ = ["About", "about", "airflow_of", "deployment_of", "manifest_of", "our_dags"]


@dataclass(frozen=True)
class About:
    """A model with all that its pages show."""

    model: Model
    dags: dict[str, Dag]
    runs: tuple[Run, ...]  # about the model, newest first
    mlflow_error: str | None
    store_error: str | None

    @property
    def active(self) -> Run | None:
        """A run about the model that is not over."""
        return next((run for run in self.runs if run.active), None)

    @property
    def failed(self) -> Run | None:
        """Its last run, if that failed."""
        return self.runs[0] if self.runs and self.runs[0].state == "failed" else None

    @property
    def menu(self) -> list[Group]:
        """Its actions menu."""
        return menu(self.model, self.dags, self.active)


def airflow_of(request: Request) -> Airflow:
    """Return Airflow's API as the user who asks."""
    return Airflow(credential_of(request))


async def our_dags(airflow: Airflow, user: GetUserDep) -> dict[str, Dag]:
    """Return our DAGs, with whether the user may run each."""
    found = await airflow.dags()
    return {name: replace(dag, may_run=may_trigger(user, name)) for name, dag in found.items()}


async def about(request: Request, user: GetUserDep, name: str) -> About:
    """Return a model with all that its pages show; what cannot be asked is left out and said.

    :raises HTTPException: 404 if neither the bundle store nor MLflow has it, and both answer.
    """
    airflow = airflow_of(request)
    known, bundles, dags, runs = await asyncio.gather(
        ask("MLflow", _registered, name),
        ask("The bundle store", _bundles, name),
        our_dags(airflow, user),
        airflow.runs(),
    )
    found = known.value or Model(name)
    imported = bundles.value or ()
    mlflow_error = None if known.missing else known.error
    if known.value is None and not imported and not mlflow_error and not bundles.error:
        raise HTTPException(404, f"There is no model '{name[:100]}': it is neither imported nor registered.")
    description = found.description or (imported[0].description if imported else "")
    model = replace(found, bundles=imported, imported=bool(imported), description=description)
    return About(model, dags, tuple(runs.of(name)), mlflow_error, bundles.error)


def deployment_of(model: Model, target: str, endpoint: str) -> DeploymentRecord:
    """Return the record of an endpoint of a model.

    :raises HTTPException: 404 if it has none.
    """
    for record in model.deployments:
        if (record.target, record.endpoint) == (target, endpoint):
            return record
    raise HTTPException(404, f"Model '{model.name}' has no endpoint '{endpoint[:100]}' on {target[:40]}.")


async def manifest_of(version: Version) -> Part[ModelManifest]:
    """Return what register_model kept with a version: its signature and sample."""
    return await ask("MLflow", _manifest, version)


def _manifest(version: Version) -> ModelManifest:
    return Registry(models.mlflow()).manifest(version.known)


def _registered(name: str) -> Model:
    mlflow = models.mlflow()
    raw = mlflow.model(name)
    return models.read_model(raw, mlflow.versions_of([name]).get(name, ()), imported=False)


def _bundles(name: str) -> tuple[Bundle, ...]:
    # A registered model made elsewhere may have a name that is no path's part.
    if "/" in name or name in {".", ".."} or "\0" in name:
        return ()
    return models.bundles_of(models.bundle_store(), name)
