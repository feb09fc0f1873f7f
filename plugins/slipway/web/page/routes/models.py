"""One model: its versions, what is deployed of it, and its past."""

from __future__ import annotations

import json
from typing import Any

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, HTTPException
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import Response

from slipway.domain import ModelManifest
from slipway.registry import LOCK_TAG
from slipway.web.page import models
from slipway.web.page.actions import find
from slipway.web.page.airflow import TARGETS, Run
from slipway.web.page.context import About, about, airflow_of, manifest_of
from slipway.web.page.models import Bundle, Version
from slipway.web.page.parts import Part, ask
from slipway.web.page.picture import Box, way
from slipway.web.page.render import ago, page, root

router = APIRouter()


@router.get("/models/{name}")
async def show_model(request: Request, user: GetUserDep, name: str) -> Response:
    """Return a model's page."""
    found = await about(request, user, name)
    wanted = request.query_params.get("do", "")
    do = wanted if find(found.menu, wanted) else ""
    return page(request, "model.html", {"about": found, "model": found.model, "request_do": do}, user=user)


@router.get("/models/{name}/menu")
async def show_menu(request: Request, user: GetUserDep, name: str) -> Response:
    """Return a model's actions menu, for htmx when it is opened."""
    found = await about(request, user, name)
    return page(request, "menu.html", {"model": found.model, "groups": found.menu}, user=user)


@router.get("/models/{name}/bundles/{digest}")
async def show_bundle(request: Request, user: GetUserDep, name: str, digest: str) -> Response:
    """Return the details of a bundle that is not registered, for htmx."""
    found = await about(request, user, name)
    bundle = next((b for b in found.model.bundles if b.digest == digest), None)
    if bundle is None:
        raise HTTPException(404, f"There is no bundle {digest[:12]} under the name '{name[:100]}'.")
    stored = await _stored(digest)
    values = {"about": found, "model": found.model, "version": None, "bundle": bundle, "made_by": None,
              "way": _way(request, found, None, bundle), **_facts(None, stored), "page_url": ""}  # fmt: skip
    return page(request, "version.html", values, user=user)


@router.get("/models/{name}/versions/{number}")
async def show_version(request: Request, user: GetUserDep, name: str, number: str) -> Response:
    """Return the details of a version, for htmx."""
    found = await about(request, user, name)
    version = found.model.version(number)
    if version is None:
        raise HTTPException(404, f"Model '{name[:100]}' has no version '{number[:20]}'.")
    manifest = await manifest_of(version) if version.ours else Part[ModelManifest]()
    stored = await _stored(version.bundle) if version.bundle else Part[dict[str, Any]]()
    bundle = next((b for b in found.model.bundles if b.digest == version.bundle), None)
    made_by = await _made_by(request, version)
    values = {
        "about": found,
        "model": found.model,
        "version": version,
        "bundle": bundle,
        "made_by": made_by,
        "way": _way(request, found, version, bundle),
        **_facts(manifest, stored),
        "page_url": (await ask("MLflow", lambda: models.mlflow().page_url(version.known))).value or "",
    }
    return page(request, "version.html", values, user=user)


async def _stored(digest: str) -> Part[dict[str, Any]]:
    return await ask("The bundle store", lambda: models.bundle_store().manifest(digest) or {})


async def _made_by(request: Request, version: Version) -> Run | None:
    dag_id, slash, run_id = version.known.tags.get("slipway.run", "").partition("/")
    return await airflow_of(request).one(dag_id, run_id) if slash else None


def _facts(manifest: Part[ModelManifest] | None, stored: Part[dict[str, Any]]) -> dict[str, Any]:
    """Return signature, requirements and sample of a version or a bundle, as the template shows them."""
    kept = stored.value or {}
    known = manifest.value if manifest and manifest.value else ModelManifest.model_validate(kept) if kept else None
    golden = known.golden if known else None
    signature = known.signature if known else None
    return {
        "manifest": known,
        "inputs": _columns(signature.inputs if signature else None),
        "outputs": _columns(signature.outputs if signature else None),
        "requirements": kept.get("requirements", []),
        "files": kept.get("files", []),
        "total_bytes": kept.get("total_bytes"),
        "probe": kept.get("probe") or {},
        "sample_in": json.dumps(golden.input, indent=1) if golden else "",
        "sample_out": json.dumps(golden.output, indent=1) if golden else "",
        "facts_error": (manifest.error if manifest else None) or stored.error,
    }


def _columns(text: str | None) -> list[dict[str, Any]]:
    """Return the columns of one side of MLflow's signature."""
    try:
        listed = json.loads(text) if text else []
    except ValueError:
        return []
    columns = []
    for column in listed if isinstance(listed, list) else []:
        spec = column.get("tensor-spec")
        kind = f"{spec.get('dtype')} {spec.get('shape')}" if isinstance(spec, dict) else str(column.get("type", ""))
        columns.append(
            {"name": str(column.get("name", "")), "type": kind, "needed": bool(column.get("required", True))}
        )
    return columns


def _way(request: Request, found: About, version: Version | None, bundle: Bundle | None) -> Markup:
    """Draw how far a version, or a bundle that is none yet, has come."""
    digest = bundle.digest if bundle else version.bundle if version else None
    if bundle:
        first = Box("Bundle", bundle.digest[:12], f"imported {ago(bundle.imported_at)}", "done")
    elif digest:
        first = Box("Bundle", digest[:12], "not in the bundle store", "done")
    else:
        first = Box("MLflow model", "Made elsewhere", "no bundle", "done")
    if version is None:
        todo = [
            Box("Version", "Not registered", "use Register", "todo"),
            Box("Environment", "None yet", "made when deployed", "todo"),
            Box("Endpoint", "Not deployed", "needs a version", "todo"),
        ]
        label = f"The way of bundle {first.title}: imported, not registered"
        return way([[first], *([box] for box in todo)], label)
    aliases = [alias for alias, number in found.model.aliases.items() if number == version.number]
    note = ", ".join(aliases) or f"registered {ago(version.created)}"
    second = Box("Version", f"Version {version.number}", note, "done")
    fourth = [
        Box(
            "Endpoint",
            record.endpoint,
            f"{TARGETS[record.target]}, {ago(record.deployed_at)}",
            "live",
            f"{root(request)}/models/{found.model.name}/endpoints/{record.target}/{record.endpoint}",
        )
        for record in version.deployments
    ]
    count = len(fourth)
    deployed = f"deployed to {count} endpoint{'s' if count > 1 else ''}" if count else "not deployed"
    fourth = fourth or [Box("Endpoint", "Not deployed", "use Deploy", "todo")]
    label = f"The way of version {version.number}: imported, registered, {deployed}"
    return way([[first], [second], _environments(version), fourth], label)


def _environments(version: Version) -> list[Box]:
    """Return the images that serve a version, or the locked environment that one would be made of."""
    images = sorted({record.image for record in version.deployments if record.image})
    if images:
        return [Box("Image", image.rpartition("/")[2], image.partition("/")[0], "done") for image in images]
    lock = version.known.tags.get(LOCK_TAG, "")
    look = "done" if version.deployments else "todo"
    return [Box("Environment", lock[:12] or "Unknown", "locked requirements" if lock else "not ours", look)]
