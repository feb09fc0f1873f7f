"""From Arrow columns to what a model's signature declares, row by row: a value that does not fit rejects its row.

MLflow's own rules convert only where nothing can be lost. A batch is more forgiving in one point, because files carry
fewer types than callers: text that spells a number, a truth value or a time is read as one.
Runs in the model's environment, so it needs pandas, numpy and pyarrow alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

Array = np.ndarray[Any, Any]
Kind = str
"""A scalar type by MLflow's name: `double`, `long`, `string`, …"""

INTEGERS = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
_TRUTHS = {"true": True, "false": False}


def cast(column: pa.Array, name: str, kind: Kind) -> tuple[Array, Array | None]:
    """Convert one column to `kind`.

    Returns the values and, if any value does not fit, one reason for each row (None where it does).
    """
    wanted = _NUMPY.get(kind)
    if wanted is not None and column.null_count == 0 and column.type == wanted[0]:
        return column.to_numpy(zero_copy_only=kind != "boolean"), None
    return _CASTS[kind](column, name)


def _double(column: pa.Array, name: str) -> tuple[Array, Array | None]:
    numbers, bad = _numbers(column)
    return numbers.astype(np.float64), _reasons(bad, name, "a number")


def _float(column: pa.Array, name: str) -> tuple[Array, Array | None]:
    numbers, bad = _numbers(column)
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32)
    bad |= np.isinf(narrow) & np.isfinite(numbers.astype(np.float64))
    return narrow, _reasons(bad, name, "a number of 32 bits")


def _whole(kind: Kind) -> Callable[[pa.Array, str], tuple[Array, Array | None]]:
    low, high = INTEGERS[kind]
    dtype = np.dtype(np.int32 if kind == "integer" else np.int64)

    def convert(column: pa.Array, name: str) -> tuple[Array, Array | None]:
        numbers, bad = _numbers(column)
        if numbers.dtype.kind == "f":
            # An empty cell is not a whole number either, and an integer column cannot hold it.
            with np.errstate(invalid="ignore"):
                # 2**63 is the smallest double beyond a long: `<=` on doubles would let it through.
                bad |= ~np.isfinite(numbers) | (numbers != np.floor(numbers)) | (numbers < low) | (numbers >= high + 1)
            whole = np.where(bad, 0, numbers).astype(dtype)
        else:
            bad |= (numbers < low) | (numbers > high)
            whole = np.where(bad, 0, numbers).astype(dtype)
        return whole, _reasons(bad, name, "a whole number" if kind == "long" else "a whole number of 32 bits")

    return convert


def _numbers(column: pa.Array) -> tuple[Array, Array]:
    """The column as numbers (NaN where there is none), and where there is a value that is none."""
    if pa.types.is_integer(column.type) and column.null_count == 0:
        return column.to_numpy(), np.zeros(len(column), dtype=bool)
    series = column.to_pandas()
    there = series.notna().to_numpy()
    numbers = pd.to_numeric(series, errors="coerce").to_numpy()
    if numbers.dtype == object:  # truth values with gaps, and decimals
        numbers = pd.to_numeric(series.map(_plain), errors="coerce").to_numpy(dtype=np.float64)
    elif numbers.dtype == bool:
        numbers = numbers.astype(np.int64)
    bad = np.isnan(numbers) & there if numbers.dtype.kind == "f" else np.zeros(len(numbers), dtype=bool)
    if bad.any() and numbers.dtype.kind == "f":
        # NaN itself is a number.
        spelled = series[bad].map(lambda value: isinstance(value, float) or str(value).strip().lower() == "nan")
        bad[np.flatnonzero(bad)[spelled.to_numpy(dtype=bool)]] = False
    return numbers, bad


def _plain(value: Any) -> float | None:
    return None if value is None else float(value)


def _boolean(column: pa.Array, name: str) -> tuple[Array, Array | None]:
    if pa.types.is_boolean(column.type):
        bad = column.is_null().to_numpy(zero_copy_only=False)
        return column.fill_null(False).to_numpy(zero_copy_only=False), _reasons(bad, name, "true or false")
    texts = [_TRUTHS.get(str(value).strip().lower()) for value in column.to_pylist()]
    bad = np.array([text is None for text in texts], dtype=bool)
    return np.array([bool(text) for text in texts], dtype=bool), _reasons(bad, name, "true or false")


def _datetime(column: pa.Array, name: str) -> tuple[Array, Array | None]:
    series = column.to_pandas()
    there = series.notna().to_numpy()
    times = pd.to_datetime(
        series, errors="coerce", utc=True, format="ISO8601" if pa.types.is_string(column.type) else None
    ).dt.tz_localize(None)
    return times.to_numpy(dtype="datetime64[ns]"), _reasons(times.isna().to_numpy() & there, name, "a date or time")


def _object(column: pa.Array, name: str) -> tuple[Array, Array | None]:  # noqa: ARG001  # nothing to refuse
    values = np.empty(len(column), dtype=object)
    values[:] = column.to_pylist()
    return values, None


def _reasons(bad: Array, name: str, what: str) -> Array | None:
    if not bad.any():
        return None
    reasons = np.full(len(bad), None, dtype=object)
    reasons[bad] = f"Column '{name}' is not {what}, as the model's signature asks."
    return reasons


_NUMPY: dict[Kind, tuple[pa.DataType, ...]] = {
    "double": (pa.float64(),),
    "float": (pa.float32(),),
    "long": (pa.int64(),),
    "integer": (pa.int32(),),
    "boolean": (pa.bool_(),),
}

_CASTS: dict[Kind, Callable[[pa.Array, str], tuple[Array, Array | None]]] = {
    "double": _double,
    "float": _float,
    "long": _whole("long"),
    "integer": _whole("integer"),
    "boolean": _boolean,
    "datetime": _datetime,
    "string": _object,
    "binary": _object,
}


def castable(kind: Kind) -> bool:
    """Whether columns of `kind` are converted here; nested ones are left to the signature's own check."""
    return kind in _CASTS


def as_values(column: pa.Array) -> Array:
    """A column of a nested type as Python values."""
    return _object(column, "")[0]
