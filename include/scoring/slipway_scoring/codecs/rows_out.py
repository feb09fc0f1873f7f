"""Predictions as CSV, JSON Lines or an Arrow stream: one line or one record for each row."""

from __future__ import annotations

import csv
import io
from typing import Any

import numpy as np
import orjson
import pandas as pd

from slipway_scoring.codecs import json_out
from slipway_scoring.outputs import whole


def to_csv(result: Any, *, header: bool) -> bytes:
    """CSV with `\\n` line ends; a header only if asked for, as SageMaker's batch transform expects none."""
    result = whole(result)
    if isinstance(result, pd.Series):
        result = result.to_frame(name=result.name if result.name is not None else "predictions")
    if isinstance(result, pd.DataFrame):
        return result.to_csv(index=False, header=header, lineterminator="\n").encode()
    rows = orjson.loads(json_out.dumps(result))
    rows = rows if isinstance(rows, list) else [rows]
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    if rows and isinstance(rows[0], dict):
        names = list(rows[0])
        if header:
            writer.writerow(names)
        writer.writerows([row.get(name) for name in names] if isinstance(row, dict) else [row] for row in rows)
    else:
        if header:
            width = len(rows[0]) if rows and isinstance(rows[0], list) else 1
            writer.writerow(["predictions"] if width == 1 else [f"predictions_{n}" for n in range(width)])
        writer.writerows(row if isinstance(row, list) else [row] for row in rows)
    return lines.getvalue().encode()


def to_json_lines(result: Any) -> bytes:
    """One JSON value a line."""
    rows = orjson.loads(json_out.dumps(result))
    rows = rows if isinstance(rows, list) else [rows]
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


def to_arrow(result: Any) -> bytes:
    """An Arrow IPC stream (https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format).

    A DataFrame keeps its columns; anything else is the column `predictions`, of lists if it has two axes.
    """
    import pyarrow as pa

    result = whole(result)
    try:
        if isinstance(result, pd.Series):
            result = result.to_frame(name=str(result.name) if result.name is not None else "predictions")
        if isinstance(result, pd.DataFrame):
            table = pa.Table.from_pandas(result.rename(columns=str), preserve_index=False)
        else:
            flat = result if not isinstance(result, np.ndarray) or result.ndim == 1 else result.tolist()
            table = pa.table({"predictions": pa.array(flat if isinstance(flat, list | np.ndarray) else [flat])})
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise json_out.UnwritableOutputError(f"The model's output has no Arrow form ({error}).") from error
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data
