"""From whatever a model returns to Arrow columns of the types that the workflow declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from slipway_spark.kinds import ARROW


class OutputMismatch(Exception):
    """The model's output is not what the workflow declares, in one sentence."""


def to_columns(result: Any, rows: int, declared: Sequence[tuple[str, str]]) -> list[pa.Array]:
    """Return one Arrow array for each of the `declared` outputs (name, kind), each of length `rows`.

    A DataFrame's columns are taken by name, or by position if the names are others; an array of shape (rows, n) gives
    n columns.

    Raises:
        OutputMismatch: another number of rows or columns, or values of another type.
    """
    columns = _split(result, len(declared))
    if isinstance(result, pd.DataFrame) and {name for name, _ in declared} <= set(result.columns):
        columns = [result[name] for name, _ in declared]
    if len(columns) != len(declared):
        raise OutputMismatch(f"The model gives {len(columns)} output columns, and {len(declared)} are declared.")
    if any(len(column) != rows for column in columns):
        raise OutputMismatch(f"The model gives {len(columns[0])} results for {rows} rows.")
    return [_convert(column, name, kind) for column, (name, kind) in zip(columns, declared, strict=True)]


def _split(result: Any, wanted: int) -> list[Any]:
    if isinstance(result, pd.DataFrame):
        return [result.iloc[:, position] for position in range(result.shape[1])]
    if isinstance(result, dict):
        return list(result.values())
    if not isinstance(result, pd.Series):
        result = np.asarray(result) if _is_regular(result) else pd.Series(list(result), dtype=object)
    if isinstance(result, np.ndarray) and result.ndim == 2 and result.shape[1] == wanted:
        return [result[:, position] for position in range(wanted)]
    if isinstance(result, np.ndarray) and result.ndim > 1:
        return [pd.Series(result.tolist(), dtype=object)]
    return [result]


def _is_regular(result: Any) -> bool:
    if isinstance(result, np.ndarray):
        return True
    return isinstance(result, list) and not (result and isinstance(result[0], list | dict))


def _convert(values: Any, name: str, kind: str) -> pa.Array:
    wanted = ARROW.get(kind)
    if isinstance(values, pd.Series):
        values = values.to_numpy() if values.dtype == object or values.dtype.kind in "biufM" else values
    try:
        if wanted is None:
            return pa.array([_json(value) for value in values], pa.string())
        if kind == "string" and getattr(values, "dtype", None) is not None and values.dtype.kind in "US":
            values = values.astype(object)
        array = pa.array(values, from_pandas=True)
        return array if array.type == wanted else array.cast(wanted)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise OutputMismatch(
            f"Output '{name}' is not of the declared type {kind} ({' '.join(str(error).split())[:200]})."
        ) from error


def _json(value: Any) -> str | None:
    import json

    return None if value is None else json.dumps(value, default=_plain)


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)
