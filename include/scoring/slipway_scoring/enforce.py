"""Hold a request to the model's signature by the rules of MLflow's `mlflow.models.utils._enforce_schema`.

The rules in short: named columns may come in any order, extra ones are dropped, missing required ones are refused;
values are converted only where nothing can be lost (integer to long, float to double, 32-bit integer to double, …).
Bodies that carry no types (JSON) are first cast to the declared types, as MLflow's scoring server does.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_object_dtype

from slipway_scoring.errors import BadPayload
from slipway_scoring.schema import Column, Schema, Tensor, Type

_SAFE_INTEGER_BYTES = 6
"""Integers up to this size become doubles without loss: MLflow's own bound."""


def cast_frame(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Cast columns that came without types (JSON) to the declared ones, then enforce the schema.

    Raises:
        BadPayload: a value cannot be what its column is declared to be.
    """
    check_columns(list(frame.columns), schema)
    named = bool(schema.names)
    for position, column in enumerate(schema.columns):
        key = column.name if named else frame.columns[position]
        if key not in frame.columns:
            continue
        try:
            frame[key] = _cast(frame[key], column)
        except BadPayload:
            raise
        except (ValueError, TypeError, OverflowError, AttributeError) as error:
            raise BadPayload(
                f"Column '{key}' cannot be read as {column.type.kind} ({_short(error)}): "
                f"send {column.type.kind} values."
            ) from error
    return enforce_frame(frame, schema)


def _cast(values: pd.Series[Any], column: Column) -> pd.Series[Any]:
    kind = column.type
    if kind.kind == "binary":
        return values.map(_from_base64)
    if kind.kind == "datetime":
        return pd.to_datetime(values)
    if not kind.is_scalar:
        return _enforce_nested(values, column)
    if kind.kind in {"integer", "long"}:
        # MLflow casts 1.7 to 1 here. A model that was never asked is worse than a client that is told.
        values = pd.to_numeric(values)
        if values.dtype.kind == "f" and not (values % 1 == 0).all():
            raise ValueError("a value is missing or has a fraction")
        if not values.between(-(2**63), 2**63 - 1024).all() and values.dtype.kind == "f":
            raise OverflowError("a value is beyond 64 bits")
        if kind.kind == "integer" and not values.between(-(2**31), 2**31 - 1).all():
            raise OverflowError("a value is beyond 32 bits")
    return values.astype(kind.dtype)


def _from_base64(value: Any) -> bytes:
    if not isinstance(value, str):
        raise TypeError(f"{type(value).__name__} instead of a base64 string")
    return base64.decodebytes(value.encode())


def enforce_frame(frame: pd.DataFrame, schema: Schema) -> pd.DataFrame:
    """Check a frame against a column schema; returns the declared columns in the declared order.

    Raises:
        BadPayload: a required column is missing, or a type cannot be converted without loss.
    """
    check_columns(list(frame.columns), schema)
    named = bool(schema.names)
    enforced: dict[Any, pd.Series[Any]] = {}
    for position, column in enumerate(schema.columns):
        key = column.name if named else frame.columns[position]
        if key not in frame.columns:
            continue
        values = frame[key]
        enforced[key] = (
            enforce_series(str(key), values, column.type) if column.type.is_scalar else _enforce_nested(values, column)
        )
    return pd.DataFrame(enforced, index=frame.index)


def check_columns(names: Sequence[Any], schema: Schema) -> None:
    """Refuse a table that lacks a required column; extra columns are no mistake."""
    if len(set(map(str, names))) != len(names):
        twice = next(str(name) for name in names if [*map(str, names)].count(str(name)) > 1)
        raise BadPayload(f"Column '{twice}' is there twice: send each column once.")
    if schema.names:
        present = set(names)
        missing = [name for name in schema.required if name not in present]
        if missing:
            extra = [str(name) for name in names if name not in set(schema.names)]
            hint = f" (it has {_listed(extra)} instead)" if extra else ""
            raise BadPayload(
                f"The input lacks {_listed(missing)}{hint}: the model's signature requires "
                f"{'that column' if len(missing) == 1 else 'those columns'}, so add "
                f"{'it' if len(missing) == 1 else 'them'}."
            )
    elif len(names) < len(schema.columns):
        raise BadPayload(
            f"The input has {len(names)} columns: the model's signature requires {len(schema.columns)}, in order."
        )


def enforce_series(name: str, values: pd.Series[Any], kind: Type) -> pd.Series[Any]:
    """Convert one flat column without loss, as MLflow's `_enforce_mlflow_datatype` does.

    Raises:
        BadPayload: that would need a conversion that loses something.
    """
    wanted = kind.dtype
    if is_object_dtype(values.dtype) and kind.kind not in {"binary", "string"}:
        values = values.infer_objects()
    has = values.dtype
    if kind.kind in {"string", "binary"}:
        if is_object_dtype(has) or isinstance(has, pd.StringDtype):
            return values
    elif has == wanted:
        return values
    elif kind.kind == "datetime":
        return _as_datetime(name, values)
    elif kind.kind == "boolean" and is_object_dtype(has):
        return values
    elif kind.kind == "double" and is_object_dtype(has):
        return _as_double(name, values)
    if isinstance(has, np.dtype) and _is_safe(has, wanted, values):
        return values.astype(wanted)
    hint = ""
    if has == np.float64 and wanted.kind == "i" and values.hasnans:
        hint = " (integer columns cannot hold missing values: declare the column as double)"
    raise BadPayload(
        f"Column '{name}' has type {has}, which cannot be converted to {kind.kind} without loss{hint}: "
        f"send {kind.kind} values."
    )


def _as_datetime(name: str, values: pd.Series[Any]) -> pd.Series[Any]:
    if values.dtype.kind == "M" or is_object_dtype(values.dtype):
        try:
            return values.astype("datetime64[ns]")
        except (TypeError, ValueError) as error:
            raise BadPayload(
                f"Column '{name}' cannot be read as datetime ({_short(error)}): "
                "send ISO 8601 values without a time zone."
            ) from error
    raise BadPayload(f"Column '{name}' has type {values.dtype}: the model's signature asks for datetime values.")


def _as_double(name: str, values: pd.Series[Any]) -> pd.Series[Any]:
    """MLflow means decimals here, and lets through whatever pandas can make a number of."""
    try:
        return pd.to_numeric(values)
    except (TypeError, ValueError) as error:
        raise BadPayload(f"Column '{name}' cannot be read as double ({_short(error)}): send double values.") from error


def _is_safe(has: np.dtype[Any], wanted: np.dtype[Any], values: pd.Series[Any]) -> bool:
    if has.kind == wanted.kind:
        return has.itemsize <= wanted.itemsize
    if has.kind == "u" and wanted.kind == "i":
        return has.itemsize < wanted.itemsize
    if has.kind in "iu" and wanted == np.float64 and has.itemsize <= _SAFE_INTEGER_BYTES:
        return True
    # MLflow also lets 64-bit zeros and ones through: columns of flags.
    return has == np.int64 and wanted.kind == "f" and bool(values.isin([0, 1]).all())


def _enforce_nested(values: pd.Series[Any], column: Column) -> pd.Series[Any]:
    name = str(column.name)
    checked = [_enforce_value(name, value, column.type, column.required) for value in values]
    return pd.Series(checked, index=values.index, name=values.name, dtype=object)


def _enforce_value(path: str, value: Any, kind: Type, required: bool) -> Any:
    """Check one value of a nested column; `path` says where it is, such as `orders[].price`."""
    handler = _NESTED.get(kind.kind)
    if handler is not None:
        return handler(path, value, kind, required)
    if kind.kind == "any":
        return value
    if not required and (value is None or value != value):  # noqa: PLR0124 -- NaN alone differs from itself
        return None
    if not np.isscalar(value):
        raise BadPayload(f"'{path}' is {_kind_of(value)}: the model's signature asks for one {kind.kind}.")
    if isinstance(value, str) and kind.kind == "datetime":
        return _as_datetime(path, pd.Series([value], dtype=object))[0]
    return enforce_series(path, pd.Series([value]), kind)[0]


def _enforce_array(path: str, value: Any, kind: Type, required: bool) -> Any:
    items = kind.items
    assert items is not None  # noqa: S101 -- by construction in schema.py
    if (not required or items.kind == "any") and (value is None or _is_empty(value)):
        return value
    if not isinstance(value, list | tuple | np.ndarray):
        raise BadPayload(f"'{path}' is {_kind_of(value)}: the model's signature asks for an array.")
    if items.is_scalar and len(value):
        enforced = enforce_series(f"{path}[]", pd.Series(list(value)), items).to_numpy(dtype=items.dtype)
        return enforced if isinstance(value, np.ndarray) else enforced.tolist()
    return [_enforce_value(f"{path}[]", item, items, required) for item in value]


def _enforce_object(path: str, value: Any, kind: Type, required: bool) -> Any:
    if not required and (value is None or value == {}):
        return value
    if not isinstance(value, dict):
        raise BadPayload(f"'{path}' is {_kind_of(value)}: the model's signature asks for an object.")
    missing = [name for name, item in kind.properties.items() if item.required and name not in value]
    if missing:
        raise BadPayload(f"'{path}' lacks {_listed(missing)}: the model's signature requires it, so add it.")
    unknown = [str(name) for name in value if name not in kind.properties]
    if unknown:
        raise BadPayload(f"'{path}' has {_listed(unknown)}: the model's signature knows no such field, so drop it.")
    return {
        name: _enforce_value(f"{path}.{name}", item, kind.properties[name].type, kind.properties[name].required)
        for name, item in value.items()
    }


def _enforce_map(path: str, value: Any, kind: Type, required: bool) -> Any:
    items = kind.items
    assert items is not None  # noqa: S101 -- by construction in schema.py
    if (not required or items.kind == "any") and (value is None or value == {}):
        return value
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        raise BadPayload(f"'{path}' is {_kind_of(value)}: the model's signature asks for a map with string keys.")
    return {key: _enforce_value(f"{path}.{key}", item, items, required) for key, item in value.items()}


_NESTED: dict[str, Callable[[str, Any, Type, bool], Any]] = {
    "array": _enforce_array,
    "object": _enforce_object,
    "map": _enforce_map,
}


def enforce_tensor(value: np.ndarray[Any, Any], tensor: Tensor) -> np.ndarray[Any, Any]:
    """Check an array's shape and dtype, as MLflow's `_enforce_tensor_spec` does (strings pass as objects)."""
    if tensor.dtype.kind == "O" and tensor.shape == (-1,):
        return value
    ragged = value.dtype.kind == "O" and value.ndim == 1
    if ragged and len(tensor.shape) > 1 and -1 in tensor.shape[1:]:
        return value
    name = f" '{tensor.name}'" if tensor.name else ""
    fits = len(tensor.shape) == value.ndim and all(
        wanted in (-1, has) for wanted, has in zip(tensor.shape, value.shape, strict=True)
    )
    if not fits:
        raise BadPayload(
            f"Tensor{name} has shape {value.shape}: the model's signature asks for {tensor.shape} (-1 is any size)."
        )
    if value.dtype != tensor.dtype and not (tensor.dtype.kind in "OU" and value.dtype.kind in "OU"):
        raise BadPayload(f"Tensor{name} has type {value.dtype}: the model's signature asks for {tensor.dtype}.")
    return value


def tensors_of_frame(frame: pd.DataFrame, schema: Schema) -> Any:
    """Tensors from a table, as MLflow's `_enforce_tensor_schema` makes them.

    A column gives one tensor: scalars, or one flattened array a row; a single unnamed tensor may take all columns.
    """
    if frame.empty:
        raise BadPayload("The input has no rows: send at least one.")
    if schema.names:
        missing = [name for name in schema.names if name not in frame.columns]
        if missing:
            raise BadPayload(f"The input lacks {_listed(missing)}: the model's signature requires it, so add it.")
        return {
            str(tensor.name): enforce_tensor(_reshape(frame[tensor.name], tensor), tensor) for tensor in schema.tensors
        }
    tensor = schema.tensors[0]
    if len(frame.columns) == 1:
        return enforce_tensor(_reshape(frame[frame.columns[0]], tensor), tensor)
    return enforce_tensor(_as_array(frame.to_numpy(), tensor), tensor)


def _reshape(values: pd.Series[Any], tensor: Tensor) -> np.ndarray[Any, Any]:
    rows = values.tolist()
    data: Any = rows if np.isscalar(rows[0]) else np.vstack(_vectors(rows, tensor))
    shape = (len(rows), *tensor.shape[1:])
    try:
        return _as_array(data, tensor).reshape(shape)
    except ValueError as error:
        raise BadPayload(
            f"Column '{values.name}' cannot be given the shape {tensor.shape}: {_short(error)}."
        ) from error


def _vectors(rows: Sequence[Any], tensor: Tensor) -> list[np.ndarray[Any, Any]]:
    vectors = [_as_array(row, tensor).ravel() for row in rows]
    if len({len(vector) for vector in vectors}) > 1:
        raise BadPayload(f"Tensor '{tensor.name}' has rows of different lengths: send rows of one length.")
    return vectors


def _as_array(values: Any, tensor: Tensor) -> np.ndarray[Any, Any]:
    try:
        return np.asarray(values, dtype=tensor.dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise BadPayload(f"The input cannot be read as a {tensor.dtype} tensor ({_short(error)}).") from error


def tensors_of_values(values: Any, schema: Schema) -> Any:
    """Tensors from JSON: a nested list for an unnamed tensor, an object of nested lists for named ones."""
    if not schema.names:
        if isinstance(values, Mapping):
            raise BadPayload("The input is an object: the model's signature asks for one unnamed tensor, a list.")
        return enforce_tensor(_as_array(values, schema.tensors[0]), schema.tensors[0])
    if not isinstance(values, Mapping):
        if len(schema.tensors) > 1:
            raise BadPayload(f"The input is a list: name the tensors, {_listed(list(schema.names))}.")
        values = {schema.names[0]: values}
    missing = [name for name in schema.names if name not in values]
    if missing:
        raise BadPayload(f"The input lacks {_listed(missing)}: the model's signature requires it, so add it.")
    return {
        str(tensor.name): enforce_tensor(_as_array(values[str(tensor.name)], tensor), tensor)
        for tensor in schema.tensors
    }


def _is_empty(value: Any) -> bool:
    return isinstance(value, list | np.ndarray) and len(value) == 0


def _kind_of(value: Any) -> str:
    return "null" if value is None else f"of type {type(value).__name__}"


def _listed(names: Sequence[str], limit: int = 10) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def _short(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
