"""Render the curl and Python samples of an endpoint from its Jinja templates."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from slipway.domain import ModelManifest, Samples

__all__ = ["MAX_ROWS", "example_payload", "render"]

MAX_ROWS = 5

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
    manifest: ModelManifest, *, url: str, token_url: str | None = None, target: str = "mlflow"
) -> Samples | None:
    """Return the samples of an endpoint; None if nothing is known of its input.

    :param manifest: the served version's manifest, for the input.
    :param url: the endpoint's URL.
    :param token_url: where an administrator gets the endpoint's bearer token, if it asks for one.
    :param target: which target's templates to use.
    """
    payload = example_payload(manifest)
    if payload is None:
        return None
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
        autoescape=False,  # noqa: S701  # shell and Python, quoted by the filters below
    )
    environment.filters["sh"] = shlex.quote
    environment.filters["py"] = repr
    values = {
        "url": url,
        "token_url": token_url,
        "body": json.dumps(payload),
    }
    return Samples(
        curl=environment.get_template(f"{target}.curl.j2").render(values),
        python=environment.get_template(f"{target}.py.j2").render(values),
    )
