"""The process of one model: `python -m slipway_spark.child --model DIR --outputs JSON`, in the model's own environment.

A Spark Python worker starts it, sends batches and reads results (see `wire`). The model is loaded once. Batches are
predicted whole; when that fails, the batch is halved until the rows that cannot be scored stand alone.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pyarrow as pa

from slipway_scoring.loaders import load
from slipway_scoring.model import Model
from slipway_spark import wire
from slipway_spark.casting import Array, as_values, cast, castable
from slipway_spark.kinds import arrow_type
from slipway_spark.outputs import to_columns

Declared = Sequence[tuple[str, str]]


class BatchScorer:
    """Scores Arrow batches with one model; a row that cannot be scored gets a reason in place of results."""

    def __init__(self, model: Model, outputs: Declared) -> None:
        self._model = model
        self._outputs = outputs
        schema = model.signature.inputs
        self._columns = schema.columns if schema else ()
        self._types = [arrow_type(kind) for _, kind in outputs]

    def score(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return `reason` and one column for each output."""
        columns, reasons = self._cast(batch)
        good = None if reasons is None else np.flatnonzero([reason is None for reason in reasons])
        if good is not None and not len(good):
            results = [pa.nulls(batch.num_rows, kind) for kind in self._types]
        else:
            chosen = columns if good is None else {name: values[good] for name, values in columns.items()}
            rows = batch.num_rows if good is None else len(good)
            results, refused = self._predict(chosen, rows)
            results, reasons = _merge(batch.num_rows, good, results, reasons, refused)
        reason = pa.nulls(batch.num_rows, pa.string()) if reasons is None else pa.array(reasons, pa.string())
        return pa.RecordBatch.from_arrays([reason, *results], [wire.REASON, *(name for name, _ in self._outputs)])

    def _cast(self, batch: pa.RecordBatch) -> tuple[dict[str, Array], Array | None]:
        """The batch's columns as the signature declares them, and for each row why it does not fit."""
        names: list[str] = batch.schema.names
        kinds = {str(column.name): column.type.kind for column in self._columns}
        reasons: Array | None = None
        columns: dict[str, Array] = {}
        for position, name in enumerate(names):
            column = batch.column(position)
            kind = kinds.get(name) if kinds else None
            if kind is None or not castable(kind):
                values = as_values(column) if kinds else column.to_pandas().to_numpy()
                wrong: Array | None = None
            else:
                values, wrong = cast(column, name, kind)
            columns[name] = values
            if wrong is not None:
                reasons = wrong if reasons is None else np.where([r is None for r in reasons], wrong, reasons)
        return columns, reasons

    def _predict(self, columns: dict[str, Array], rows: int) -> tuple[list[pa.Array], dict[int, str]]:
        """Results of all rows (null where refused), and the refused rows with the reason of each."""
        try:
            return self._call(columns, rows), {}
        except Exception as error:  # noqa: BLE001  # a model may raise anything
            if rows == 1:
                return [pa.nulls(1, kind) for kind in self._types], {0: _sentence(error)}
        half = rows // 2
        left, wrong_left = self._predict({name: values[:half] for name, values in columns.items()}, half)
        right, wrong_right = self._predict({name: values[half:] for name, values in columns.items()}, rows - half)
        joined = [pa.concat_arrays(pair) for pair in zip(left, right, strict=True)]
        return joined, wrong_left | {row + half: reason for row, reason in wrong_right.items()}

    def _call(self, columns: dict[str, Array], rows: int) -> list[pa.Array]:
        reader = self._model.reader
        if all(values.dtype != object for values in columns.values()):
            payload = reader.arrays(columns)
        else:
            payload = reader.frame(pd.DataFrame(columns, copy=False), typed=True)
        return to_columns(self._model.predict([payload]), rows, self._outputs)


def _merge(
    total: int, good: Array | None, results: list[pa.Array], reasons: Array | None, refused: dict[int, str]
) -> tuple[list[pa.Array], Array | None]:
    """Put the results of the rows that were predicted back among those that were not."""
    if refused:
        reasons = np.full(total, None, dtype=object) if reasons is None else reasons
        for row, reason in refused.items():
            reasons[row if good is None else good[row]] = reason
    if good is not None:
        places = np.full(total, -1)
        places[good] = np.arange(len(good))
        indices = pa.array(np.where(places < 0, 0, places), mask=places < 0)
        results = [column.take(indices) for column in results]
    return results, reasons


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())[:300]
    return f"The model cannot score the row ({type(error).__name__}: {text})."


def serve(scorer: BatchScorer, requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer batches until the other side has gone."""
    while (body := wire.read_request(requests)) is not None:
        with pa.ipc.open_stream(pa.py_buffer(body)) as reader:
            batch = reader.read_next_batch()
        wire.write_answer(answers, wire.SCORED, to_bytes(scorer.score(batch)))


def to_bytes(batch: pa.RecordBatch) -> memoryview:
    """One batch as an Arrow IPC stream."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return memoryview(sink.getvalue())


def main(arguments: list[str]) -> int:
    """Load the model and serve; 0 when the worker has gone."""
    parser = argparse.ArgumentParser(prog="slipway_spark.child")
    parser.add_argument("--model", type=Path, required=True, help="an MLflow model directory")
    parser.add_argument("--outputs", type=json.loads, required=True, help="[[name, kind], …]")
    options = parser.parse_args(arguments)
    _die_with_parent()
    # What the model prints must not come between the frames: its standard output goes where its errors go.
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    with answers, os.fdopen(os.dup(0), "rb", buffering=0) as requests:
        try:
            model = load(options.model)
        except Exception as error:  # noqa: BLE001  # whatever it is, the worker must hear of it
            wire.write_answer(answers, wire.BROKEN, memoryview(str(error).encode()))
            return 1
        serve(BatchScorer(model, [(name, kind) for name, kind in options.outputs]), requests, answers)
    return 0


def _die_with_parent() -> None:
    """Ask the kernel to end this process with the worker (prctl(2), PR_SET_PDEATHSIG); the pipe's end is the rest."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
