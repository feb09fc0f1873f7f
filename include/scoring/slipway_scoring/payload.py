"""What a request brings to the model, in the cheapest form that keeps its meaning.

Each form knows its number of rows, a `layout` (two payloads can be predicted together if their layouts are equal) and
how to become what the model takes. Making a DataFrame costs pandas about 100 µs however few rows it has, so requests
are joined as numpy arrays and the frame is made once for the whole batch.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

Array = np.ndarray[Any, Any]


class Payload(Protocol):
    """The input of one request."""

    @property
    def rows(self) -> int:
        """How many predictions it asks for; 1 if that cannot be known."""
        ...

    @property
    def layout(self) -> Hashable | None:
        """Equal for payloads that can be joined; None if it can be joined with nothing."""
        ...

    def join(self, others: Sequence[Any]) -> Any:
        """What the model takes: this payload's rows, then those of `others`, which have the same layout."""
        ...


class Names:
    """The names of a table's columns, with the pandas index made once."""

    __slots__ = ("index", "names")

    def __init__(self, names: Sequence[Any]) -> None:
        self.names = tuple(names)
        self.index = pd.Index(names)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Names) and self.names == other.names)

    def __hash__(self) -> int:
        return hash(self.names)


@dataclass(slots=True)
class Block:
    """A table whose columns share one numeric dtype: `values` has shape (rows, columns)."""

    names: Names
    values: Array

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.values)

    @property
    def layout(self) -> Hashable:
        """Names and dtype."""
        return (self.names, self.values.dtype)

    def join(self, others: Sequence[Block]) -> pd.DataFrame:
        """One DataFrame on one block of memory."""
        return pd.DataFrame(self.stack(others), columns=self.names.index, copy=False)

    def stack(self, others: Sequence[Block]) -> Array:
        """The same rows as a bare array, for models that need no names."""
        return np.concatenate([self.values, *(other.values for other in others)]) if others else self.values


@dataclass(slots=True)
class Columns:
    """A table of columns of any dtypes, each of the same length."""

    names: Names
    values: list[Array]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.values[0]) if self.values else 0

    @property
    def layout(self) -> Hashable:
        """Names and dtypes."""
        return (self.names, *(column.dtype for column in self.values))

    def join(self, others: Sequence[Columns]) -> pd.DataFrame:
        """One DataFrame of the concatenated columns."""
        columns = self.values
        if others:
            columns = [
                np.concatenate([column, *(other.values[number] for other in others)])
                for number, column in enumerate(columns)
            ]
        frame = pd.DataFrame(dict(enumerate(columns)), copy=False)
        frame.columns = self.names.index
        return frame


@dataclass(slots=True)
class Frame:
    """A table with something unusual in it: nested values, pandas' own dtypes, an index.

    `alone` keeps it apart: pandas treats a column of mixed objects as a whole, so company would change its meaning.
    """

    frame: pd.DataFrame
    alone: bool = False

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return len(self.frame)

    @property
    def layout(self) -> Hashable | None:
        """Names and dtypes; none if it is to stay alone, or has an index that would get lost."""
        if self.alone or not isinstance(self.frame.index, pd.RangeIndex):
            return None
        return (tuple(self.frame.columns), *self.frame.dtypes)

    def join(self, others: Sequence[Frame]) -> pd.DataFrame:
        """One DataFrame of all rows."""
        if not others:
            return self.frame
        return pd.concat([self.frame, *(other.frame for other in others)], ignore_index=True)


@dataclass(slots=True)
class Tensors:
    """One unnamed tensor, or several by name; the first axis is the row."""

    values: Array | Mapping[str, Array]

    @property
    def rows(self) -> int:
        """The length of the first axis, 1 for a scalar."""
        first = self.values if isinstance(self.values, np.ndarray) else next(iter(self.values.values()), None)
        return len(first) if first is not None and first.ndim else 1

    @property
    def layout(self) -> Hashable | None:
        """Names, dtypes and the shapes of one row; none for a scalar or ragged tensors."""
        if isinstance(self.values, np.ndarray):
            return (self.values.dtype, self.values.shape[1:]) if self.values.ndim else None
        rows = self.rows
        if any(not value.ndim or len(value) != rows for value in self.values.values()):
            return None
        return tuple((name, value.dtype, value.shape[1:]) for name, value in self.values.items())

    def join(self, others: Sequence[Tensors]) -> Any:
        """A numpy array, or a dict of them."""
        if isinstance(self.values, np.ndarray):
            return np.concatenate([self.values, *(other.values for other in others)]) if others else self.values
        return {
            name: np.concatenate([value, *(other.values[name] for other in others)]) if others else value
            for name, value in self.values.items()
        }


@dataclass(slots=True)
class Opaque:
    """Anything else that JSON can say, for models without a signature: passed on as it is, alone."""

    value: Any
    rows: int = 1
    layout: None = None

    def join(self, others: Sequence[Opaque]) -> Any:  # noqa: ARG002 -- its layout joins it with nothing
        """The value itself."""
        return self.value
