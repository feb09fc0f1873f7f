"""Infer a model's signature from a sample and its predictions, in the form of MLflow's `ModelSignature.to_dict()`."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

Json = dict[str, Any]
_BY_KIND = {"b": "boolean", "f": "double", "M": "datetime", "U": "string", "S": "binary"}


def infer(frame: pd.DataFrame, output: Any) -> dict[str, str | None]:
    """`{"inputs", "outputs", "params"}`, each a JSON string or None."""
    inputs = [{**_column(frame.iloc[:, n]), "name": str(name)} for n, name in enumerate(frame.columns)]
    return {"inputs": json.dumps(inputs), "outputs": json.dumps(_outputs(output)), "params": None}


def declared(signature: Mapping[str, Any]) -> dict[str, str | None]:
    """The `signature` of a bundle.yaml in the same form; what it leaves out is None."""
    return {
        part: json.dumps([{"required": True, **item} for item in items]) if items else None
        for part in ("inputs", "outputs", "params")
        for items in (signature.get(part),)
    }


def _outputs(output: Any) -> list[Json]:  # noqa: PLR0911 -- one line a type reads best
    if isinstance(output, pd.DataFrame):
        return [{**_column(output.iloc[:, n]), "name": str(name)} for n, name in enumerate(output.columns)]
    if isinstance(output, pd.Series):
        return [_column(output)] if output.name is None else [{**_column(output), "name": str(output.name)}]
    if isinstance(output, np.ndarray):
        if output.dtype.kind in "OUS":
            return [_column(pd.Series(list(output), dtype=object))]
        return [{"type": "tensor", "tensor-spec": {"dtype": output.dtype.name, "shape": [-1, *output.shape[1:]]}}]
    if isinstance(output, list):
        return [_column(pd.Series(output, dtype=object).infer_objects())]
    if isinstance(output, Mapping):
        return [{**_column(pd.Series([value], dtype=object)), "name": str(name)} for name, value in output.items()]
    return [_column(pd.Series([output], dtype=object).infer_objects())]


def _column(values: pd.Series[Any]) -> Json:
    required = not bool(values.isna().any())
    return {**_type_of_column(values), "required": required}


def _type_of_column(values: pd.Series[Any]) -> Json:
    dtype = values.dtype
    if isinstance(dtype, np.dtype) and dtype.kind != "O":
        if dtype.kind in "iu":
            return {"type": "integer" if dtype.itemsize < 4 or dtype == np.int32 else "long"}
        if dtype.kind == "f" and dtype.itemsize < 8:
            return {"type": "float"}
        return {"type": _BY_KIND.get(dtype.kind, "any")}
    present = [value for value in values if not (value is None or value is pd.NA or value != value)]  # noqa: PLR0124
    return _merge([_type_of_value(value) for value in present])


def _type_of_value(value: Any) -> Json:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    for kinds, name in (
        ((bool, np.bool_), "boolean"),
        ((int, np.integer), "long"),
        ((float, np.floating), "double"),
        ((str,), "string"),
        ((bytes, bytearray), "binary"),
        ((dt.date, np.datetime64), "datetime"),
    ):
        if isinstance(value, kinds):
            return {"type": name}
    if isinstance(value, list | tuple):
        return {"type": "array", "items": _merge([_type_of_value(item) for item in value])}
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return {
            "type": "object",
            "properties": {key: {**_type_of_value(item), "required": True} for key, item in value.items()},
        }
    return {"type": "any"}


def _merge(types: Sequence[Json]) -> Json:
    """The one type of all values: longs among doubles are doubles; objects may lack fields; else `any`."""
    if not types:
        return {"type": "any"}
    first = types[0]
    if all(item == first for item in types):
        return first
    kinds = {item["type"] for item in types}
    if kinds == {"long", "double"}:
        return {"type": "double"}
    if kinds == {"array"}:
        return {"type": "array", "items": _merge([item["items"] for item in types])}
    if kinds == {"object"}:
        names = dict.fromkeys(name for item in types for name in item["properties"])
        merged: Json = {}
        for name in names:
            found = [item["properties"][name] for item in types if name in item["properties"]]
            required = len(found) == len(types) and all(item["required"] for item in found)
            bare = [{key: value for key, value in item.items() if key != "required"} for item in found]
            merged[name] = {**_merge(bare), "required": required}
        return {"type": "object", "properties": merged}
    return {"type": "any"}
