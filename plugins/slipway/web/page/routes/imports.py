"""Importing a bundle: the upload, its form, and what to start from."""

from __future__ import annotations

import io
import zipfile
from dataclasses import replace
from typing import Annotated
from urllib.parse import unquote

from airflow.api_fastapi.core_api.security import GetUserDep
from fastapi import APIRouter, Header, HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from slipway import settings
from slipway.bundles.source import default_name
from slipway.web.page import forms
from slipway.web.page.access import CHANGES, must_trigger
from slipway.web.page.context import airflow_of, our_dags
from slipway.web.page.render import page, root
from slipway.web.page.uploads import receive

router = APIRouter()
DAG = "import_bundle"
# Folders of include/model_bundles that can be downloaded, each as a zip that can be imported as it is.
_EXAMPLES = {"skeleton": "The skeleton", "breast-cancer": "A sample bundle"}
_URI = "bundle_uri"


@router.get("/import")
async def show_import(request: Request, user: GetUserDep) -> Response:
    """Return the page where a zip is dropped."""
    airflow = airflow_of(request)
    dag = (await our_dags(airflow, user)).get(DAG)
    params = await airflow.params(DAG) if dag else {}
    every = forms.fields(params, {})
    values = {
        "dag": dag,
        "limit": settings.max_archive_bytes(),
        "fields": [field for field in every if field.name != _URI],
        # Needed only where nothing is uploaded, which the browser cannot know.
        "location": [replace(field, required=False, attributes=()) for field in every if field.name == _URI],
        "examples": _EXAMPLES,
    }
    return page(request, "import.html", values, user=user)


@router.put("/uploads", dependencies=CHANGES)
async def upload(
    request: Request, user: GetUserDep, x_filename: Annotated[str, Header(max_length=1000)] = "bundle.zip",
    content_length: Annotated[int | None, Header(ge=0)] = None,
) -> Response:  # fmt: skip
    """Take a zip, as the request's body, to where import_bundle can read it; answer its URI."""
    must_trigger(user, DAG)
    uri, received = await receive(request.stream(), unquote(x_filename), content_length)
    return JSONResponse({"uri": uri, "bytes": received}, 201)


@router.post("/import", dependencies=CHANGES)
async def start_import(request: Request, user: GetUserDep) -> Response:
    """Start import_bundle for what was uploaded, or for a location; the answer sends the browser to the run."""
    must_trigger(user, DAG)
    airflow = airflow_of(request)
    params = await airflow.params(DAG)
    form = {name: value for name, value in (await request.form()).items() if isinstance(value, str)}
    conf, errors = forms.parse(params, form)
    if errors:
        return page(request, "form_check.html", {"errors": errors, "effects": [], "params": params}, status=422)
    stem = default_name(str(conf[_URI]))
    subject = (
        conf.get("name")
        or "".join(c if (c.isascii() and c.isalnum()) or c in "._-" else "-" for c in stem)[:63]
        or "bundle"
    )
    run_id = await airflow.start(DAG, subject, conf)
    return Response(headers={"HX-Redirect": f"{root(request)}/runs/{DAG}/{run_id}"})


@router.get("/downloads/{name}.zip")
async def download(name: str) -> Response:
    """Return the skeleton or a sample bundle as a zip."""
    if name not in _EXAMPLES:
        raise HTTPException(404, f"There is no example '{name[:60]}': there are {', '.join(_EXAMPLES)}.")
    data = await run_in_threadpool(_zip, name)
    return Response(
        data, media_type="application/zip", headers={"Content-Disposition": f'attachment; filename="{name}.zip"'}
    )


def _zip(name: str) -> bytes:
    folder = settings.model_bundles_dir() / name
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                archive.write(file, file.relative_to(folder))
    return written.getvalue()
