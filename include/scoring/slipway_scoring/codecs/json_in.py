"""JSON bodies: MLflow's five shapes, and pandas' bare `split`.

JSON has no NaN and infinity. In a numeric column `null` and `"NaN"` are NaN, `"Infinity"` and `"-Infinity"` are those;
the bare tokens that Python's `json` writes are read too.
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from slipway_scoring.errors import BadPayload
from slipway_scoring.payload import Opaque, Payload
from slipway_scoring.tables import TableReader, check_depth

SHAPES = ("dataframe_split", "dataframe_records", "instances", "inputs")
_SPLIT_KEYS = {"columns", "data", "index"}


def loads(body: bytes) -> Any:
    """Parse JSON.

    Raises:
        BadPayload: it is none.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as first:
        if any(token in body for token in (b"NaN", b"Infinity")):
            try:
                return json.loads(body)
            except (ValueError, RecursionError):
                pass
        raise BadPayload(f"The body is not valid JSON ({first}): send JSON in UTF-8.") from first


def decode(body: bytes, reader: TableReader, *, raw_inputs: bool = False) -> tuple[Payload, dict[str, Any] | None]:
    """MLflow's JSON shapes (https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/).

    Args:
        body: the request's body.
        reader: holds the tables to the signature.
        raw_inputs: pass `inputs` on untouched, as MLflow does for a model whose signature comes from type hints.

    Returns:
        The payload and MLflow's `params`, which may be None.

    Raises:
        BadPayload: not JSON, not one of the shapes, or not what the signature declares.
    """
    document = loads(body)
    if not isinstance(document, dict):
        raise BadPayload(f"The body is a JSON {_name(document)}: send an object with one of {', '.join(SHAPES)}.")
    params = document.get("params")
    if params is not None and not isinstance(params, dict):
        raise BadPayload("'params' is not an object: send {name: value, …}.")
    shapes = [shape for shape in SHAPES if shape in document]
    if len(shapes) != 1:
        has = ", ".join(f"'{key[:50]}'" for key in list(document)[:10]) or "nothing"
        raise BadPayload(f"The body has {has}: send an object with exactly one of {', '.join(SHAPES)}.")
    shape, value = shapes[0], document[shapes[0]]
    if shape == "dataframe_split":
        return split(value, reader), params
    if shape == "dataframe_records":
        if not isinstance(value, list):
            raise BadPayload("'dataframe_records' is not a list: send a list of {column: value, …}.")
        return reader.records(value), params
    if raw_inputs:
        if shape != "inputs":
            raise BadPayload('The model takes its input as it is: send {"inputs": …}.')
        if isinstance(value, dict | list):
            check_depth(value)
        return Opaque(value, rows=len(value) if isinstance(value, list) else 1), params
    return reader.values(value), params


def split(value: Any, reader: TableReader) -> Payload:
    """pandas' `orient="split"`: `{"columns": […], "data": [[…], …]}`, `index` if it matters."""
    if not isinstance(value, dict) or "data" not in value or not value.keys() <= _SPLIT_KEYS:
        raise BadPayload("A split table is an object with 'data', 'columns' and perhaps 'index': send just those.")
    names, rows, index = value.get("columns"), value["data"], value.get("index")
    if not isinstance(rows, list) or not isinstance(names, list | None) or not isinstance(index, list | None):
        raise BadPayload("A split table's 'columns', 'data' and 'index' are lists: send lists.")
    if index is not None and index == list(range(len(rows))):
        index = None
    return reader.rows(names, rows, index)


def _name(value: Any) -> str:
    return {list: "list", str: "string", bool: "boolean", type(None): "null"}.get(type(value), "number")
