"""From parsed rows or columns to a payload: the short way for flat columns, pandas for everything else.

The short way needs a signature with named, flat columns. It never decides that a request is bad: whatever surprises
it goes the long way, through pandas and `enforce`, which knows how to say what is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import infer_dtype, is_object_dtype

from slipway_scoring import enforce
from slipway_scoring.errors import BadPayload
from slipway_scoring.payload import Array, Block, Columns, Frame, Names, Opaque, Payload, Tensors
from slipway_scoring.schema import Column, Schema

Rows = Sequence[Any]
MAX_DEPTH = 64
_SURPRISES = (KeyError, TypeError, ValueError, OverflowError, IndexError)
_KNOWN_ORDERS = 64
_PLAIN_OBJECTS = {"string", "empty"}


class TableReader:
    """Makes payloads of tables by one schema (None: the model has no signature)."""

    def __init__(self, schema: Schema | None) -> None:
        self._schema = schema
        columns = schema.columns if schema else ()
        short = bool(columns) and all(c.name is not None and c.type.kind in _CONVERTERS for c in columns)
        self._names = Names([column.name for column in columns]) if short else None
        self._columns = columns
        self._uniform = schema.uniform_dtype if short and schema else None
        self._pickers: dict[tuple[Any, ...], Callable[[Any], Any] | None] = {}
        self._name_list = [column.name for column in columns]
        self._record: Callable[[Any], Any] | None = _picker(self._name_list) if short else None

    @property
    def schema(self) -> Schema | None:
        """The schema that payloads are held to."""
        return self._schema

    def rows(self, names: list[Any] | None, rows: Rows, index: list[Any] | None = None) -> Payload:
        """A table of lists of values; without `names` the columns come in the signature's order.

        Raises:
            BadPayload: the table is not what the signature declares.
        """
        if self._names is not None and index is None and rows:
            try:
                if names is None or names == self._name_list:
                    return self._short(rows)
                pick = self._picker_for(names)
                if pick is not None:
                    return self._short([pick(row) for row in rows])
            except _SURPRISES:
                pass
        if any(isinstance(row, dict) for row in rows):
            raise BadPayload("A row of a split table is an object: send every row as a list of values.")
        if names is None and self._schema is not None and self._schema.names and self._schema.columns:
            names = self._positional_names(rows)
        return self.frame(_make_frame(rows, names, index), typed=False)

    def records(self, records: Rows) -> Payload:
        """A table of objects, one a row.

        Raises:
            BadPayload: as `rows`.
        """
        if self._record is not None and records:
            try:
                return self._short(list(map(self._record, records)))
            except _SURPRISES:
                pass
        if not all(isinstance(record, Mapping) for record in records):
            raise BadPayload("A row is not an object: send every row as {column: value, …}.")
        return self.frame(_make_frame(records, None, None), typed=False)

    def columns(self, columns: Mapping[str, Any]) -> Payload:
        """A table of whole columns, each a list of values of the same length, or one row of bare values."""
        values = list(columns.values())
        if values and not any(isinstance(value, list) for value in values):
            return self.records([columns])
        if self._record is not None and len({len(v) if isinstance(v, list) else -1 for v in values}) == 1:
            try:
                picked = self._record(columns)
                return self._short_columns(picked)
            except _SURPRISES:
                pass
        try:
            frame = pd.DataFrame(dict(columns))
        except (ValueError, TypeError) as error:
            raise BadPayload(f"The columns do not make a table ({error}): send lists of one length.") from error
        return self.frame(frame, typed=False)

    def frame(self, frame: pd.DataFrame, *, typed: bool) -> Payload:
        """A pandas table; `typed` says that its format (Arrow, Parquet, CSV) gave the columns their types."""
        if self._schema is None:
            return _free_frame(frame)
        if self._schema.tensors:
            return Tensors(enforce.tensors_of_frame(frame, self._schema))
        enforced = (enforce.enforce_frame if typed else enforce.cast_frame)(frame, self._schema)
        return self.compact(enforced)

    def arrays(self, arrays: Mapping[str, Array]) -> Payload:
        """Columns that came as numpy arrays with types of their own, each of shape (rows,)."""
        if self._names is not None and all(name in arrays for name in self._name_list):
            picked = [arrays[str(name)] for name in self._name_list]
            if all(a.dtype == c.type.dtype and a.ndim == 1 for a, c in zip(picked, self._columns, strict=True)):
                if self._uniform is not None:
                    return Block(self._names, np.stack(picked, axis=1))
                return Columns(self._names, picked)
        return self.frame(pd.DataFrame(dict(arrays), copy=False), typed=True)

    def values(self, values: Any) -> Payload:
        """What `inputs` may hold: columns, records, rows, tensors, or anything if there is no signature."""
        if isinstance(values, dict | list):
            check_depth(values)
        if self._schema is not None and self._schema.tensors:
            return Tensors(enforce.tensors_of_values(values, self._schema))
        if isinstance(values, Mapping):
            if self._schema is None:
                return Tensors({str(name): _free_array(value) for name, value in values.items()})
            return self.columns(values)
        if isinstance(values, list) and values and isinstance(values[0], Mapping):
            return self.records(values)
        if self._schema is None:
            return Tensors(_free_array(values)) if isinstance(values, list) else Opaque(values)
        rows = values if isinstance(values, list) else [values]
        if rows and not isinstance(rows[0], list):
            rows = [[value] for value in rows]
        return self.rows(None, rows)

    def compact(self, frame: pd.DataFrame) -> Payload:
        """An enforced frame as flat arrays where that loses nothing, so that it can be joined cheaply."""
        odd = any(_is_odd(frame[column.name], column) for column in self._columns if column.name in frame)
        if (
            odd
            or self._names is None
            or len(frame.columns) != len(self._columns)
            or not isinstance(frame.index, pd.RangeIndex)
            or any(frame.dtypes.iloc[i] != c.type.dtype for i, c in enumerate(self._columns))
        ):
            return Frame(frame, alone=odd)
        if self._uniform is not None:
            return Block(self._names, np.ascontiguousarray(frame.to_numpy()))
        return Columns(self._names, [frame[name].to_numpy() for name in self._name_list])

    def _short(self, rows: Rows) -> Payload:
        assert self._names is not None  # noqa: S101 -- callers check
        width = len(self._columns)
        if self._uniform is not None:
            block = _uniform_block(rows, self._uniform)
            if block.ndim != 2 or block.shape[1] != width:
                raise ValueError("not a table")
            return Block(self._names, block)
        if set(map(len, rows)) != {width} or not set(map(type, rows)) <= {list, tuple}:
            raise ValueError("not a table")  # A string is no row of letters, an object no row of its keys.
        return self._short_columns(list(zip(*rows, strict=True)))

    def _short_columns(self, columns: Sequence[Sequence[Any]]) -> Payload:
        assert self._names is not None  # noqa: S101 -- callers check
        arrays = [
            _CONVERTERS[column.type.kind](values, column) for column, values in zip(self._columns, columns, strict=True)
        ]
        if self._uniform is not None:
            return Block(self._names, np.stack(arrays, axis=1))
        return Columns(self._names, arrays)

    def _picker_for(self, names: list[Any]) -> Callable[[Any], Any] | None:
        """Puts a row of `names` into the signature's order; None if it cannot. Clients send few orders: remembered."""
        key = tuple(names)
        if key not in self._pickers:
            if len(self._pickers) >= _KNOWN_ORDERS:
                self._pickers.clear()
            positions = {name: position for position, name in enumerate(names)}
            complete = len(positions) == len(names) and all(name in positions for name in self._name_list)
            self._pickers[key] = _picker([positions[name] for name in self._name_list]) if complete else None
        return self._pickers[key]

    def _positional_names(self, rows: Rows) -> list[Any]:
        assert self._schema is not None  # noqa: S101 -- the caller checks
        width = len(self._schema.names)
        if any(not isinstance(row, list) or len(row) != width for row in rows):
            raise BadPayload(
                f"A row without column names must have {width} values, one for each column of the model's "
                "signature, in its order: send that many, or name the columns."
            )
        return list(self._schema.names)


def check_depth(value: Any) -> None:
    """Refuse nesting that would exhaust the stack of what comes after."""
    level: list[Any] = [value]
    for _ in range(MAX_DEPTH):
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return
    raise BadPayload(f"The body is nested deeper than {MAX_DEPTH} levels: send flatter JSON.")


def _picker(keys: Sequence[Any]) -> Callable[[Any], Any]:
    """`itemgetter` that gives a tuple for one key too."""
    if len(keys) == 1:
        key = keys[0]
        return lambda row: (row[key],)
    return itemgetter(*keys)


def _make_frame(data: Rows, names: list[Any] | None, index: list[Any] | None) -> pd.DataFrame:
    check_depth(data)
    try:
        return pd.DataFrame(data, columns=names, index=index)
    except Exception as error:  # pandas raises what it likes on odd shapes
        raise BadPayload(
            f"The rows do not make a table ({' '.join(str(error).split())[:200]}): send rows of one length."
        ) from error


def _is_odd(values: pd.Series[Any], column: Column) -> bool:
    """Whether a column holds objects of a type that its declaration leaves open."""
    if column.type.kind == "any":
        return True
    objects = is_object_dtype(values.dtype) and column.type.kind in {"string", "boolean"}
    return objects and infer_dtype(values, skipna=True) not in _PLAIN_OBJECTS


def _free_frame(frame: pd.DataFrame) -> Frame:
    """A table that no signature vouches for."""
    objects = [values for _, values in frame.items() if is_object_dtype(values.dtype)]
    return Frame(frame, alone=any(infer_dtype(values, skipna=True) not in _PLAIN_OBJECTS for values in objects))


def _free_array(values: Any) -> Array:
    try:
        return np.array(values)
    except ValueError as error:
        raise BadPayload(f"The input is ragged ({error}): send nested lists of one shape.") from error


def _uniform_block(rows: Rows, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "f":
        return np.array(rows, dtype=dtype)
    block = np.array(rows)  # Told the dtype, numpy would cut fractions off in silence.
    if block.dtype != np.int64:
        raise TypeError("not all integers")
    return block if dtype == np.int64 else np.array(rows, dtype=dtype)


def _integers(values: Sequence[Any], column: Column) -> Array:
    if set(map(type, values)) != {int}:
        raise TypeError("not all integers")
    return np.array(values, dtype=column.type.dtype)


def _numbers(values: Sequence[Any], column: Column) -> Array:
    array = np.array(values, dtype=column.type.dtype)
    if array.ndim != 1:
        raise ValueError("not flat")
    return array


def _booleans(values: Sequence[Any], column: Column) -> Array:
    if set(map(type, values)) != {bool}:
        raise TypeError("not all booleans")
    return np.array(values, dtype=column.type.dtype)


def _strings(values: Sequence[Any], column: Column) -> Array:
    if not set(map(type, values)) <= {str, type(None)}:
        raise TypeError("not all strings")
    array = np.empty(len(values), dtype=column.type.dtype)
    array[:] = values
    return array


_CONVERTERS: dict[str, Callable[[Sequence[Any], Column], Array]] = {
    "double": _numbers,
    "float": _numbers,
    "long": _integers,
    "integer": _integers,
    "boolean": _booleans,
    "string": _strings,
}
