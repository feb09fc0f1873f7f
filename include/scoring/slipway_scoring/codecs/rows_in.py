"""CSV, JSON Lines, Parquet and Arrow bodies.

pyarrow is imported at the first body that needs it: a server that only sees JSON never pays for it.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import orjson
import pandas as pd

from slipway_scoring.errors import BadPayload
from slipway_scoring.payload import Payload
from slipway_scoring.schema import Schema
from slipway_scoring.tables import TableReader

_CSV_BLOCK = 1 << 20
"""Arrow parses blocks of this many bytes at the same time."""
_ARROW_TYPES = {
    "double": "float64",
    "float": "float32",
    "long": "int64",
    "integer": "int32",
    "boolean": "bool",
    "string": "string",
}


def csv_in(body: bytes, reader: TableReader, *, header: bool | None = None) -> Payload:
    """CSV in UTF-8.

    Args:
        body: the text.
        reader: holds the table to the signature.
        header: whether the first line holds names (RFC 4180's parameter). None looks: a first line that has none of
            the signature's names and just as many values as it has columns is data (SageMaker's clients send that).

    Raises:
        BadPayload: not UTF-8, not CSV, or not what the signature declares.
    """
    schema = reader.schema
    try:
        first = next(csv.reader([body[: body.find(b"\n") % (len(body) + 1)].decode()]), [])
    except (UnicodeDecodeError, csv.Error) as error:
        raise BadPayload(f"The body is not CSV in UTF-8 ({error}): send CSV with one header line.") from error
    if not first:
        raise BadPayload("The body is empty: send CSV with one header line and at least one row.")
    names = list(schema.names) if schema and schema.columns else []
    if header is None:
        header = not (names and len(first) == len(names) and not set(first) & set(names))
    if not header and names and len(first) != len(names):
        raise BadPayload(f"A CSV row has {len(first)} values: without a header it must have {len(names)}.")
    columns = first if header else (names or [str(number) for number in range(len(first))])
    if header and len(set(columns)) != len(columns):
        raise BadPayload("The CSV header names a column twice: name each column once.")
    quick = _arrow_csv(body, reader, columns, header=header) if names and b'"' not in body else None
    if quick is not None:
        return quick
    try:
        frame = pd.read_csv(io.BytesIO(body), header=0 if header else None, names=columns, dtype=_pandas_types(schema))
    except Exception as error:  # pandas raises what it likes on odd CSV
        raise BadPayload(
            f"The CSV cannot be read ({' '.join(str(error).split())[:200]}): send rows of one length, with values of "
            "the types that the model's signature declares."
        ) from error
    if not isinstance(frame.index, pd.RangeIndex):  # pandas took the surplus values for an index
        raise BadPayload(f"A CSV row has more values than the {len(columns)} columns: send rows of one length.")
    return _csv_frame(frame, reader)


def _arrow_csv(body: bytes, reader: TableReader, columns: list[str], *, header: bool) -> Payload | None:
    """Plain columns by Arrow's parser, five times as fast as pandas'; None if it is not sure of the meaning."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    schema = reader.schema
    assert schema is not None  # noqa: S101 -- the caller has its names
    if any(column.type.kind not in _ARROW_TYPES for column in schema.columns) or set(columns) < set(schema.names):
        return None
    types = {column.name: _ARROW_TYPES[column.type.kind] for column in schema.columns}
    try:
        table = arrow_csv.read_csv(
            pa.py_buffer(body),
            read_options=arrow_csv.ReadOptions(
                column_names=columns, skip_rows=1 if header else 0, block_size=_CSV_BLOCK
            ),
            convert_options=arrow_csv.ConvertOptions(
                column_types=types, include_columns=list(schema.names), strings_can_be_null=True
            ),
        )
    except (pa.ArrowException, KeyError):
        return None
    return from_arrow(table, reader)


def _pandas_types(schema: Schema | None) -> dict[str, Any] | None:
    if schema is None or not schema.columns:
        return None
    # As MLflow: pandas reads the declared types; what CSV has no form for comes as text.
    return {
        str(column.name): column.type.dtype if column.type.kind in _ARROW_TYPES else np.dtype(object)
        for column in schema.columns
        if column.name is not None
    }


def _csv_frame(frame: pd.DataFrame, reader: TableReader) -> Payload:
    schema = reader.schema
    textual = {c.name for c in schema.columns if c.type.kind in {"datetime", "binary"}} if schema else set()
    return reader.frame(frame, typed=not textual)


def json_lines_in(body: bytes, reader: TableReader) -> Payload:
    """JSON Lines: each line an object of columns, a list of values, or `{"features": […]}`.

    Raises:
        BadPayload: a line is not JSON (the message says which), or the table is not what the signature declares.
    """
    rows: list[Any] = []
    for number, line in enumerate(body.splitlines(), start=1):
        if line.strip():
            try:
                rows.append(orjson.loads(line))
            except orjson.JSONDecodeError as error:
                raise BadPayload(f"Line {number} is not valid JSON ({error}): send one JSON value a line.") from error
    if not rows:
        raise BadPayload("The body is empty: send at least one line.")
    if all(isinstance(row, dict) and row.keys() == {"features"} and isinstance(row["features"], list) for row in rows):
        rows = [row["features"] for row in rows]
    if all(isinstance(row, list) for row in rows):
        return reader.rows(None, rows)
    if all(isinstance(row, dict) for row in rows):
        return reader.records(rows)
    return reader.values(rows)


def parquet_in(body: bytes, reader: TableReader) -> Payload:
    """A Parquet file.

    Raises:
        BadPayload: it is none, or not what the signature declares.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        table = parquet.read_table(pa.BufferReader(body), use_threads=False)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadPayload(f"The body is not a Parquet file ({' '.join(str(error).split())[:200]}).") from error
    return from_arrow(table, reader)


def arrow_in(body: bytes, reader: TableReader) -> Payload:
    """An Arrow IPC stream (or file).

    Raises:
        BadPayload: it is neither, or not what the signature declares.
    """
    import pyarrow as pa

    try:
        opened = pa.ipc.open_file if body.startswith(b"ARROW1") else pa.ipc.open_stream
        with opened(pa.py_buffer(body)) as stream:
            table = stream.read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise BadPayload(f"The body is not an Arrow IPC stream ({' '.join(str(error).split())[:200]}).") from error
    return from_arrow(table, reader)


def from_arrow(table: Any, reader: TableReader) -> Payload:
    """The payload of a pyarrow Table."""
    import pyarrow as pa

    if len(set(table.column_names)) != table.num_columns:
        raise BadPayload("The table names a column twice: name each column once.")
    flat = all(
        column.null_count == 0 and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type))
        for column in table.columns
    )
    try:
        if flat:
            return reader.arrays({name: table.column(name).to_numpy() for name in table.column_names})
        return reader.frame(table.to_pandas(use_threads=False), typed=True)
    except (pa.ArrowException, TypeError) as error:
        raise BadPayload(f"The table cannot be read ({error}): send plain column types.") from error
