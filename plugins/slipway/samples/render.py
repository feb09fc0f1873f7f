"""Render the samples of an endpoint (curl, Python and its cloud's own tools) from their Jinja templates."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from slipway.domain import ModelManifest, Samples

__all__ = ["MAX_ROWS", "example_payload", "render"]

MAX_ROWS = 5

_FOLDER = Path(__file__).parent
_KINDS = {"curl": "curl", "python": "py", "boto3": "boto3", "cli": "cli"}

# One plausible value for each of MLflow's column types.
_EXAMPLES: dict[str, Any] = {
    "boolean": True,
    "integer": 1,
    "long": 1,
    "float": 1.0,
    "double": 1.0,
    "string": "text",
    "binary": "dGV4dA==",
    "datetime": "2026-01-31T12:00:00",
}


def example_payload(manifest: ModelManifest) -> dict[str, Any] | None:
    """Return a body for `/invocations`: the golden sample, or one made from the signature; None if neither helps.

    Of a long golden sample the first rows are enough, where rows do not depend on each other.
    """
    if manifest.golden:
        payload = manifest.golden.input
        split = payload.get("dataframe_split")
        if split and manifest.rows_independent and len(split["data"]) > MAX_ROWS:
            short = {k: v for k, v in split.items() if k != "index"} | {"data": split["data"][:MAX_ROWS]}
            return {"dataframe_split": short}
        return payload
    columns = json.loads(manifest.signature.inputs) if manifest.signature and manifest.signature.inputs else []
    if not columns or not all("name" in column and column.get("type") in _EXAMPLES for column in columns):
        return None  # tensors, nested columns: a made-up value would not be a good example
    row = [_EXAMPLES[column["type"]] for column in columns]
    return {"dataframe_split": {"columns": [column["name"] for column in columns], "data": [row]}}


def render(
    manifest: ModelManifest,
    *,
    url: str,
    token_url: str | None = None,
    target: str = "mlflow",
    values: dict[str, Any] | None = None,
) -> Samples | None:
    """Return the samples of an endpoint; None if nothing is known of its input.

    :param manifest: the served version's manifest, for the input.
    :param url: the endpoint's URL.
    :param token_url: where an administrator gets the endpoint's bearer token, if it asks for one.
    :param target: which target's templates to use, `<target>.<kind>.j2`; a target that has none is one whose
        endpoint is scored as the model host's are.
    :param values: further values for the templates.
    """
    payload = example_payload(manifest)
    if payload is None:
        return None
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        autoescape=False,  # noqa: S701  # shell and Python, quoted by the filters below
    )
    environment.filters["sh"] = shlex.quote
    environment.filters["py"] = repr
    given = {**(values or {}), "url": url, "token_url": token_url, "body": json.dumps(payload)}
    written = {}
    for kind, ending in _KINDS.items():
        own = f"{target}.{ending}.j2"
        name = own if (_FOLDER / own).exists() else f"mlflow.{ending}.j2"
        if (_FOLDER / name).exists():
            written[kind] = environment.get_template(name).render(given)
    return Samples(**written)
