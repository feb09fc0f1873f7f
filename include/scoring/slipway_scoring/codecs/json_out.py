"""Predictions as JSON, in MLflow's shape: `{"predictions": …}`.

A DataFrame or Series becomes a list of records, an array nested lists, everything else what it is. NaN, NaT and NA
become `null`, infinity `"Infinity"` or `"-Infinity"`; times are ISO 8601; bytes are base64.
"""

from __future__ import annotations

import base64
import datetime as dt
import decimal
import math
from typing import Any

import numpy as np
import orjson
import pandas as pd

from slipway_scoring.outputs import FramePart, SharedFrame, is_missing

_OPTIONS = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
_DIRECT = "biu"
"""The kinds of numpy arrays that orjson writes as Python would."""


class UnwritableOutputError(Exception):
    """The model gave something that no output format can hold."""


def encode(result: Any) -> bytes:
    """The whole answer.

    Raises:
        UnwritableOutputError: the model's output has no JSON form.
    """
    return b'{"predictions":' + dumps(result) + b"}"


def dumps(value: Any) -> bytes:
    """`value`, a model's output or a part of it, as JSON.

    Raises:
        UnwritableOutputError: it has no JSON form.
    """
    try:
        written = orjson.dumps(_plain(value), _default, _OPTIONS)
        # orjson writes infinity as null; look again only where there is a null.
        return orjson.dumps(_spell_infinity(_plain(value)), _default, _OPTIONS) if b"null" in written else written
    except (TypeError, ValueError, RecursionError) as error:
        raise UnwritableOutputError(
            f"The model's output ({type(value).__name__}) has no JSON form ({error}): return an array, a DataFrame "
            "or lists of plain values."
        ) from error


def _plain(value: Any) -> Any:
    """`value` as something that orjson writes the way MLflow's scoring server would."""
    if isinstance(value, np.ndarray):
        direct = value.dtype.kind in _DIRECT or value.dtype == np.float64
        # A 32-bit float is written with the digits of its exact value, as `tolist` has them.
        return value if direct and value.flags.c_contiguous else _list_of_array(value)
    if isinstance(value, FramePart):
        return value.records
    if isinstance(value, pd.DataFrame):
        return SharedFrame(value).records
    if isinstance(value, pd.Series):
        name = "0" if value.name is None else str(value.name)
        return SharedFrame(value.to_frame(name=name)).records
    return value


def _list_of_array(value: np.ndarray[Any, Any]) -> Any:
    if value.dtype.kind == "M":
        return [None if pd.isna(stamp) else stamp.isoformat() for stamp in pd.DatetimeIndex(value.ravel())]
    return value.tolist()


def _spell_infinity(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, float | np.floating):
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return value
    if isinstance(value, dict):
        return {key: _spell_infinity(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spell_infinity(item) for item in value]
    return value


def _default(value: Any) -> Any:  # noqa: PLR0911 -- one line a type reads best
    """What orjson does not know: numpy scalars, times, bytes, and containers of other libraries."""
    if is_missing(value):
        return None
    if isinstance(value, pd.Timestamp | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, np.datetime64):
        return str(np.datetime_as_string(value))
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return _list_of_array(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return base64.b64encode(bytes(value)).decode()
    if isinstance(value, decimal.Decimal):
        return float(value)
    if isinstance(value, set | frozenset):
        return list(value)
    if isinstance(value, pd.DataFrame | pd.Series):
        return _plain(value)
    for method in ("tolist", "toarray", "model_dump"):  # torch, scipy, pydantic
        if hasattr(value, method):
            return getattr(value, method)()
    raise TypeError(f"it holds a {type(value).__name__}")
