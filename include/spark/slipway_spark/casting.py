"""From Arrow columns to what a model's signature declares, row by row: a value that does not fit rejects its row.

MLflow's own rules convert only where nothing can be lost. A batch is more forgiving in one point, because files carry
fewer types than callers: text that spells a number, a truth value or a time is read as one.
Runs in the model's environment, so it needs pandas, numpy and pyarrow alone.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Array = np.ndarray[Any, Any]
Kind = str
"""A scalar type by MLflow's name: `double`, `long`, `string`, …"""

INTEGERS = {"integer": (-(2**31), 2**31 - 1), "long": (-(2**63), 2**63 - 1)}
_FIRST_DIGIT = 18
"""Where the first digit of the largest long stands, counted from 0."""
# Short enough for no overflow: see `_all_match`.
_PLAIN_INTEGER = "^-?[0-9]+$"
_PLAIN_NUMBER = r"^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9][0-9]?)?$"
_LONGEST_INTEGER, _LONGEST_NUMBER = 18, 40
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
    numbers, bad = _doubles(column)
    return numbers, _reasons(bad, name, "a number")


def _float(column: pa.Array, name: str) -> tuple[Array, Array | None]:
    numbers, bad = _doubles(column)
    with np.errstate(over="ignore"):
        narrow = numbers.astype(np.float32)
    bad = bad | (np.isinf(narrow) & np.isfinite(numbers))
    return narrow, _reasons(bad, name, "a number of 32 bits")


def _doubles(column: pa.Array) -> tuple[Array, Array]:
    """The column as doubles (NaN where there is none), and where there is a value that is no number."""
    if _is_number(column.type) or _all_match(column, _PLAIN_NUMBER, _LONGEST_NUMBER):
        doubles = column.cast(pa.float64(), safe=False)
        return doubles.to_numpy(zero_copy_only=False), np.zeros(len(column), dtype=bool)
    read = [_spelled(value, float) for value in column.to_pylist()]
    numbers = np.array([np.nan if number is None else number for number in read], dtype=np.float64)
    return numbers, np.array([number is None for number in read], dtype=bool) & _there(column)


def _whole(kind: Kind) -> Callable[[pa.Array, str], tuple[Array, Array | None]]:
    low, high = INTEGERS[kind]
    dtype = np.dtype(np.int32 if kind == "integer" else np.int64)

    def convert(column: pa.Array, name: str) -> tuple[Array, Array | None]:
        numbers, bad = _integers(column)
        # An empty cell is not a whole number either, and an integer column cannot hold it.
        bad = bad | ~_there(column) | (numbers < low) | (numbers > high)
        whole = np.where(bad, 0, numbers).astype(dtype)
        return whole, _reasons(bad, name, "a whole number" if kind == "long" else "a whole number of 32 bits")

    return convert


def _integers(column: pa.Array) -> tuple[Array, Array]:
    """The column as whole numbers (0 where there is none), and where there is a value that is none.

    Never by way of doubles, which hold 53 bits: a number must not depend on what else is in its batch.
    """
    kind = column.type
    if pa.types.is_boolean(kind) or pa.types.is_null(kind) or _all_match(column, _PLAIN_INTEGER, _LONGEST_INTEGER):
        column = column.cast(pa.int64())
    if pa.types.is_integer(column.type):
        return column.fill_null(0).to_numpy(), np.zeros(len(column), dtype=bool)
    if pa.types.is_floating(column.type):
        doubles = column.cast(pa.float64()).to_numpy(zero_copy_only=False)
        with np.errstate(invalid="ignore"):
            # 2**63 is the smallest double beyond a long.
            good = (doubles == np.floor(doubles)) & (doubles >= -(2.0**63)) & (doubles < 2.0**63)
        return np.where(good, doubles, 0).astype(np.int64), ~good
    read = [_spelled(value, _exact) for value in column.to_pylist()]
    numbers = np.array([number or 0 for number in read], dtype=np.int64)
    return numbers, np.array([number is None for number in read], dtype=bool)


def _exact(value: Any) -> int | None:
    """The whole number of at most 64 bits that text or a decimal spells; None if it spells none."""
    try:
        return _in_a_long(int(value)) if isinstance(value, str) else _of_decimal(Decimal(value))
    except ValueError:
        return _of_decimal(Decimal(value))


def _of_decimal(number: Decimal) -> int | None:
    # Its size first: 1e999999999 is spelled in a few letters.
    if not number.is_finite() or number.adjusted() > _FIRST_DIGIT or number != number.to_integral_value():
        return None
    return _in_a_long(int(number))


def _in_a_long(number: int) -> int | None:
    low, high = INTEGERS["long"]
    return number if low <= number <= high else None


def _spelled(value: Any, read: Callable[[Any], Any]) -> Any:
    """What `read` makes of a value; None where it is no number. Python's `1_000` is none in a file."""
    try:
        return None if value is None or (isinstance(value, str) and "_" in value) else read(value)
    except (ValueError, ArithmeticError, TypeError):
        return None


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_null)
    return any(test(kind) for test in tests)


def _all_match(column: pa.Array, pattern: str, longest: int) -> bool:
    """Whether all of a column is text that Arrow reads at once, to the same value as Python does one by one."""
    if not pa.types.is_string(column.type) or (pc.max(pc.binary_length(column)).as_py() or 0) > longest:
        return False
    return pc.all(pc.match_substring_regex(column, pattern)).as_py() is not False


def _there(column: pa.Array) -> Array:
    there: Array = column.is_valid().to_numpy(zero_copy_only=False)
    return there


def _boolean(column: pa.Array, name: str) -> tuple[Array, Array | None]:
    if pa.types.is_boolean(column.type):
        bad = column.is_null().to_numpy(zero_copy_only=False)
        return column.fill_null(False).to_numpy(zero_copy_only=False), _reasons(bad, name, "true or false")
    texts = [_TRUTHS.get(str(value).strip().lower()) for value in column.to_pylist()]
    bad = np.array([text is None for text in texts], dtype=bool)
    return np.array([bool(text) for text in texts], dtype=bool), _reasons(bad, name, "true or false")


def _datetime(column: pa.Array, name: str) -> tuple[Array, Array | None]:
    times = pd.to_datetime(
        column.to_pandas(),
        errors="coerce",
        utc=True,
        format="ISO8601" if pa.types.is_string(column.type) else None,
    ).dt.tz_localize(None)
    values = _nanoseconds(times.to_numpy())
    return values, _reasons(np.isnat(values) & _there(column), name, "a date or time between 1677-09-21 and 2262-04-11")


def _nanoseconds(times: Array) -> Array:
    """Times in models' own unit, NaT where it does not reach: numpy's cast alone makes another time of those."""
    if times.dtype == np.dtype("datetime64[ns]"):
        return times
    limit = pd.Timestamp.max.to_datetime64().astype(times.dtype).astype(np.int64)
    since_1970 = times.astype(np.int64)
    reached = (since_1970 >= -limit) & (since_1970 <= limit)
    return np.where(reached, times, np.datetime64("NaT")).astype("datetime64[ns]")


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
