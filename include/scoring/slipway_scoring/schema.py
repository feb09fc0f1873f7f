"""A model's signature as MLflow writes it into `MLmodel`, without importing MLflow.

`ModelSignature.to_dict()` holds three JSON strings: inputs, outputs and params. A schema is either all columns or all
tensors (https://mlflow.org/docs/latest/ml/model/signatures/).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

NUMPY_TYPES: dict[str, np.dtype[Any]] = {
    "boolean": np.dtype(np.bool_),
    "integer": np.dtype(np.int32),
    "long": np.dtype(np.int64),
    "float": np.dtype(np.float32),
    "double": np.dtype(np.float64),
    "string": np.dtype(object),
    "binary": np.dtype(object),
    "datetime": np.dtype("datetime64[ns]"),
}
"""MLflow's scalar types and what their columns are in memory."""


@dataclass(frozen=True, slots=True)
class Type:
    """A column's type. `kind` is a key of NUMPY_TYPES, or `array`, `object`, `map`, `any`."""

    kind: str
    items: Type | None = None
    properties: Mapping[str, Property] = field(default_factory=dict)

    @property
    def is_scalar(self) -> bool:
        """Whether a column of it is a flat numpy array."""
        return self.kind in NUMPY_TYPES

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy type of such a column; `object` for nested types."""
        return NUMPY_TYPES.get(self.kind, NUMPY_TYPES["string"])


@dataclass(frozen=True, slots=True)
class Property:
    """A field of an `object` type."""

    type: Type
    required: bool


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a column schema; `name` is None when the signature names none."""

    name: str | None
    type: Type
    required: bool


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a tensor schema; -1 in `shape` is any size."""

    name: str | None
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Schema:
    """Columns or tensors, never both."""

    columns: tuple[Column, ...] = ()
    tensors: tuple[Tensor, ...] = ()

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names in order; empty when the schema has none."""
        found = [column.name for column in self.columns] + [tensor.name for tensor in self.tensors]
        return tuple(name for name in found if name is not None)

    @cached_property
    def required(self) -> tuple[str, ...]:
        """The names that a request must bring."""
        optional = {column.name for column in self.columns if not column.required}
        return tuple(name for name in self.names if name not in optional)

    @cached_property
    def uniform_dtype(self) -> np.dtype[Any] | None:
        """The dtype that all columns share, if it is a numeric one."""
        kinds = {column.type.kind for column in self.columns}
        return NUMPY_TYPES[kinds.pop()] if len(kinds) == 1 and kinds <= _NUMERIC else None


_NUMERIC = {"integer", "long", "float", "double"}


@dataclass(frozen=True, slots=True)
class Param:
    """One inference parameter; `shape` is None for a scalar and (-1,) for a list."""

    name: str
    kind: str
    default: Any
    shape: tuple[int, ...] | None


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in, what comes out, and which params there are; None where the model says nothing."""

    inputs: Schema | None = None
    outputs: Schema | None = None
    params: tuple[Param, ...] | None = None

    @classmethod
    def parse(cls, source: Mapping[str, str | None] | None) -> Signature:
        """Read `ModelSignature.to_dict()`; None gives an empty signature."""
        source = source or {}
        params = source.get("params")
        return cls(
            inputs=_schema(source.get("inputs")),
            outputs=_schema(source.get("outputs")),
            params=None if params is None else tuple(_param(item) for item in json.loads(params)),
        )


def _schema(text: str | None) -> Schema | None:
    items = json.loads(text) if text else []
    if not items:
        return None
    if items[0].get("type") == "tensor":
        return Schema(tensors=tuple(_tensor(item) for item in items))
    return Schema(columns=tuple(_column(item) for item in items))


def _tensor(item: Mapping[str, Any]) -> Tensor:
    spec = item["tensor-spec"]
    dtype = np.dtype(object) if spec["dtype"] == "str" else np.dtype(spec["dtype"])
    return Tensor(item.get("name"), dtype, tuple(spec["shape"]))


def _column(item: Mapping[str, Any]) -> Column:
    # `optional` is how MLflow 1 and early 2 wrote it.
    return Column(item.get("name"), _type(item), item.get("required", not item.get("optional", False)))


def _type(item: Mapping[str, Any]) -> Type:
    kind: str = item["type"]
    if kind == "array":
        return Type("array", items=_type(item["items"]))
    if kind == "map":
        return Type("map", items=_type(item["values"]))
    if kind == "object":
        return Type(
            "object",
            properties={
                name: Property(_type(inner), inner.get("required", True)) for name, inner in item["properties"].items()
            },
        )
    return Type(kind if kind in NUMPY_TYPES else "any")


def _param(item: Mapping[str, Any]) -> Param:
    shape: Sequence[int] | None = item.get("shape")
    return Param(item["name"], item.get("type", item.get("dtype", "any")), item.get("default"),
                 None if shape is None else tuple(shape))  # fmt: skip
