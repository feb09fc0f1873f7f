"""What a model gave, cut into the parts that belong to each request of a batch."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd


class NotByRowError(Exception):
    """The output has no part for each row of the input."""


class SharedFrame:
    """The DataFrame that a whole batch gave. Its records are made once, not once for every request."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.frame = frame

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """One dict a row; missing values are None, names are strings."""
        columns = [_plain_column(self.frame.iloc[:, number]) for number in range(self.frame.shape[1])]
        names = [str(name) for name in self.frame.columns]
        return [dict(zip(names, row, strict=True)) for row in zip(*columns, strict=True)]


@dataclass(slots=True)
class FramePart:
    """Some rows of a shared frame."""

    shared: SharedFrame
    start: int
    stop: int

    @property
    def records(self) -> list[dict[str, Any]]:
        """Those rows as records."""
        return self.shared.records[self.start : self.stop]

    @property
    def frame(self) -> pd.DataFrame:
        """Those rows as a DataFrame."""
        return self.shared.frame.iloc[self.start : self.stop]


def whole(result: Any) -> Any:
    """A part as what the model itself would have given for those rows."""
    return result.frame if isinstance(result, FramePart) else result


def is_missing(item: Any) -> bool:
    """Whether an object is one of pandas' marks for a missing value."""
    return item is None or item is pd.NaT or item is pd.NA


def _plain_column(values: pd.Series[Any]) -> list[Any]:
    kind = values.dtype.kind
    return values.tolist() if kind in "biuf" else [None if is_missing(item) else item for item in values]


def split(result: Any, rows: Sequence[int]) -> list[Any]:
    """Cut a model's output for all rows into the parts that belong to each request.

    Raises:
        NotByRowError: it cannot be cut.
    """
    total = sum(rows)
    bounds = [0]
    for count in rows:
        bounds.append(bounds[-1] + count)
    pairs = list(itertools.pairwise(bounds))
    if isinstance(result, np.ndarray):
        if not result.ndim or len(result) != total:
            raise NotByRowError
        return [result[start:end] for start, end in pairs]
    if isinstance(result, pd.DataFrame):
        if len(result) != total:
            raise NotByRowError
        shared = SharedFrame(result)
        return [FramePart(shared, start, end) for start, end in pairs]
    if isinstance(result, pd.Series):
        if len(result) != total:
            raise NotByRowError
        return [result.iloc[start:end] for start, end in pairs]
    if isinstance(result, list):
        if len(result) != total:
            raise NotByRowError
        return [result[start:end] for start, end in pairs]
    if isinstance(result, dict) and result:
        parts = {name: split(value, rows) for name, value in result.items()}
        return [{name: values[number] for name, values in parts.items()} for number in range(len(rows))]
    raise NotByRowError
