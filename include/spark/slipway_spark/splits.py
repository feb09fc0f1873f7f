"""What a task of the short way does (see `direct`): read row groups, score them, write one parquet file."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway_spark.relay import ModelPlace, score_batch
from slipway_spark.wire import REASON

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = ["RowGroup", "WriteTask", "file_schema", "output_schema", "split_function"]

# What a row group of the output may take before it is compressed, and a batch before it is scored.
_GROUP_BYTES = 64 * 1024 * 1024
_BATCH_BYTES = 32 * 1024 * 1024
# Rows that are looked at to tell whether a column's values repeat.
_SAMPLE_ROWS = 10_000


@dataclass(frozen=True)
class RowGroup:
    """One row group of an input file; `size` is in bytes, compressed."""

    path: str
    number: int
    size: int


@dataclass(frozen=True)
class WriteTask:
    """What all tasks have in common.

    Args:
        place: the model.
        names: columns that the model takes.
        kept: columns that go into the output.
        schema: the output's schema: kept columns, then the model's outputs.
        folder: where tasks write.
        codec: parquet's name of the compression.
        batch_rows: most rows in a batch.
    """

    place: ModelPlace
    names: tuple[str, ...]
    kept: tuple[str, ...]
    schema: pa.Schema
    folder: str
    codec: str
    batch_rows: int


def file_schema(schema: pa.Schema) -> pa.Schema | None:
    """A file's schema without its notes; None if a type in it means something else to Spark than to Arrow."""
    import pyarrow as pa

    same = {pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.bool_(), pa.string(),
            pa.binary(), pa.date32(), pa.timestamp("us"), pa.timestamp("us", "UTC")}  # fmt: skip
    if not all(field.type in same or pa.types.is_decimal128(field.type) for field in schema):
        return None
    return pa.schema([pa.field(field.name, field.type) for field in schema])


def output_schema(
    schema: pa.Schema, kept: Sequence[str], outputs: Sequence[tuple[str, str]], names: Sequence[str]
) -> pa.Schema:
    """The schema of what is written: the kept columns, and the model's outputs (name, MLflow type) under new names."""
    import pyarrow as pa

    from slipway_spark.kinds import arrow_type

    # Spark's time has a zone.
    types = [pa.timestamp("us", "UTC") if kind == "datetime" else arrow_type(kind) for _, kind in outputs]
    scored = [pa.field(name, kind) for name, kind in zip(names, types, strict=True)]
    return pa.schema([*(schema.field(name) for name in kept), *scored])


def split_function(
    task: WriteTask, tasks: Sequence[Sequence[RowGroup]], accumulators: Sequence[Any]
) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Return the function for `mapInArrow` over task numbers: it does the tasks and yields `task, file, came, lost`.

    `file` is null for a task with no good rows, unless it is the first: the output has its schema even when empty.
    """

    def work(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for batch in batches:
            for number in batch.column(0).to_pylist():
                file, came, lost = _do(task, tasks[number], always=number == 0)
                for accumulator, rows in zip(accumulators, (came, came - lost), strict=False):
                    accumulator.add(rows)
                row = {"task": [number], "file": [file], "came": [came], "lost": [lost]}
                yield pa.RecordBatch.from_pydict(
                    row, pa.schema({"task": pa.int64(), "file": pa.string(), "came": pa.int64(), "lost": pa.int64()})
                )

    return work


def _do(task: WriteTask, groups: Sequence[RowGroup], *, always: bool) -> tuple[str | None, int, int]:
    came = lost = 0
    with _Part(task) as part:
        for group in groups:
            for batch in _batches(group, task.batch_rows):
                came += batch.num_rows
                columns = [batch.column(batch.schema.get_field_index(name)) for name in task.names]
                scored = score_batch(task.place, columns, task.names)
                kept = [batch.column(batch.schema.get_field_index(name)) for name in task.kept]
                lost += part.add(kept, scored)
        return part.close(always=always), came, lost


def _batches(group: RowGroup, rows: int) -> Iterator[pa.RecordBatch]:
    """Read a row group batch by batch, fewer rows at a time where they are large."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        # Not mapped into memory: those pages would count as the worker's.
        with pq.ParquetFile(group.path) as file:
            about = file.metadata.row_group(group.number)
            each = about.total_byte_size // max(about.num_rows, 1)
            size = max(1, min(rows or about.num_rows, _BATCH_BYTES // max(each, 1)))
            yield from file.iter_batches(size, row_groups=[group.number], use_threads=False)
    except (pa.ArrowException, OSError) as error:
        line = " ".join(str(error).split())[:200]
        # In the form of Spark's own errors, which `errors.explain` knows.
        raise UnreadableFileError(f"[FAILED_READ_FILE.SLIPWAY] file:{group.path} ({line})") from error


class UnreadableFileError(Exception):
    """A file of the input cannot be read."""


class _Part:
    """The file that a task writes, made with the first good row."""

    def __init__(self, task: WriteTask) -> None:
        self._task = task
        self._name = f"part-{uuid.uuid4().hex}.parquet"
        self._stack = ExitStack()
        self._writer: Any = None
        self._waiting: list[pa.RecordBatch] = []
        self._bytes = 0

    def __enter__(self) -> _Part:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def add(self, kept: list[pa.Array], scored: pa.RecordBatch) -> int:
        """Take a batch's good rows; return how many of its rows are rejected."""
        import pyarrow as pa

        reason = scored.column(scored.schema.get_field_index(REASON))
        results = [column for name, column in zip(scored.schema.names, scored.columns, strict=True) if name != REASON]
        batch = pa.RecordBatch.from_arrays([*kept, *results], schema=self._task.schema)
        lost = batch.num_rows - reason.null_count
        if lost:
            batch = batch.filter(reason.is_null())
        if batch.num_rows:
            self._waiting.append(batch)
            self._bytes += batch.nbytes
        if self._bytes >= _GROUP_BYTES:
            self._flush()
        return int(lost)

    def close(self, *, always: bool) -> str | None:
        """Finish the file and return its name; None if there was nothing to write and it need not be there."""
        if self._waiting or always:
            self._flush()
        self._stack.close()
        return None if self._writer is None else self._name

    def _flush(self) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.Table.from_batches(self._waiting, self._task.schema)
        if self._writer is None:
            path = Path(self._task.folder) / self._name
            writer = pq.ParquetWriter(
                path, self._task.schema, compression=self._task.codec, use_dictionary=_repetitive(table)
            )
            self._writer = self._stack.enter_context(writer)
        if table.num_rows:
            self._writer.write_table(table)
        self._waiting, self._bytes = [], 0


def _repetitive(table: pa.Table) -> list[str]:
    """The columns that a dictionary makes smaller; trying one on all others is a third of the time of writing."""
    import pyarrow.compute as pc

    sample = table.slice(0, _SAMPLE_ROWS)
    return [
        name
        for name, column in zip(sample.schema.names, sample.columns, strict=True)
        if pc.count_distinct(column).as_py() <= sample.num_rows // 2
    ]
