"""MLflow's scalar types in Arrow's terms; needed on both sides of a model's pipe, so it imports pyarrow alone."""

from __future__ import annotations

import pyarrow as pa

__all__ = ["ARROW", "arrow_type"]

ARROW = {
    "boolean": pa.bool_(),
    "integer": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "string": pa.string(),
    "binary": pa.binary(),
    "datetime": pa.timestamp("us"),
}


def arrow_type(kind: str) -> pa.DataType:
    """The type of a column of `kind`; what is not scalar travels as JSON text."""
    return ARROW.get(kind, pa.string())
