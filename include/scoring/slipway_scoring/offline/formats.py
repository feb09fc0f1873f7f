"""How each file format is cut into records, read as a payload, and written with predictions beside it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import orjson
import pandas as pd

from slipway_scoring.codecs import json_out, rows_in
from slipway_scoring.errors import BadPayload
from slipway_scoring.payload import Payload
from slipway_scoring.tables import TableReader

Records = Sequence[Any]
_MAX_RECORD_BYTES = 64 * 2**20


class Format(Protocol):
    """One input file. A part is a sequence of records; `position` is how many input bytes they end at."""

    suffix: str

    def parts(self, rows: int) -> Iterator[tuple[Records, int]]:
        """Every part of at most `rows` records, with the position behind it."""
        ...

    def decode(self, records: Records, reader: TableReader) -> Payload:
        """The payload of some records. Raises BadPayload."""
        ...

    def describe(self, record: Any) -> Any:
        """One record as JSON, for the rejects."""
        ...

    def write(self, path: Path, records: Records, predictions: Any) -> None:
        """Write the records with their predictions, a list of one JSON value a record or a DataFrame."""
        ...


def open_format(path: Path) -> Format:
    """The format of a file, by its name."""
    opened: Format = FORMATS[path.suffix.lower()](path)
    return opened


class CsvFile:
    """CSV with a header line; a scored line is the line as it was, then the predictions."""

    suffix = ".csv"

    def __init__(self, path: Path) -> None:
        self._path = path
        with path.open("rb") as file:
            self._header = next(_records(file), b"")
        if not self._header.strip():
            raise BadPayload(f"{path} is empty: CSV files need a header line.")

    def parts(self, rows: int) -> Iterator[tuple[Records, int]]:
        """Parts of raw lines."""
        with self._path.open("rb") as file:
            lines = _records(file)
            next(lines, None)
            yield from _gather(lines, rows, len(self._header) + 1)

    def decode(self, records: Records, reader: TableReader) -> Payload:
        """By the server's own CSV codec."""
        payload = rows_in.csv_in(b"\n".join([self._header, *records]), reader, header=True)
        if payload.rows != len(records):
            raise BadPayload("A line is not one row: its quotes do not close.")
        return payload

    def describe(self, record: Any) -> Any:
        """The line by column; a line that is no row stays text."""
        names = next(csv.reader([self._header.decode("utf-8", "replace")]))
        values = next(csv.reader([record.decode("utf-8", "replace")]), [])
        return dict(zip(names, values, strict=True)) if len(names) == len(values) else record.decode("utf-8", "replace")

    def write(self, path: Path, records: Records, predictions: Any) -> None:
        """Header and lines."""
        taken = set(next(csv.reader([self._header.decode()])))
        columns = prediction_columns(predictions, taken)
        cells = io.StringIO()
        writer = csv.writer(cells, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*(map(_cell, values) for values in columns.values()), strict=True))
        added = cells.getvalue().encode().splitlines()
        with path.open("wb") as file:
            file.writelines(
                b"%b,%b\n" % (line, more) for line, more in zip([self._header, *records], added, strict=True)
            )


class JsonLinesFile:
    """JSON Lines; a scored line is the object with the predictions in it."""

    suffix = ".jsonl"

    def __init__(self, path: Path) -> None:
        self._path = path

    def parts(self, rows: int) -> Iterator[tuple[Records, int]]:
        """Parts of raw lines, without empty ones."""
        with self._path.open("rb") as file:
            yield from _gather((line.rstrip(b"\r\n") for line in file if line.strip()), rows, 0)

    def decode(self, records: Records, reader: TableReader) -> Payload:
        """By the server's own codec."""
        payload = rows_in.json_lines_in(b"\n".join(records), reader)
        if payload.rows != len(records):
            raise BadPayload("A line is not one row.")
        return payload

    def describe(self, record: Any) -> Any:
        """The object; a line that is no JSON stays text."""
        try:
            return orjson.loads(record)
        except orjson.JSONDecodeError:
            return record.decode("utf-8", "replace")

    def write(self, path: Path, records: Records, predictions: Any) -> None:
        """One line a record."""
        rows = [orjson.loads(record) for record in records]
        taken = {name for row in rows[:1] if isinstance(row, dict) for name in row}
        columns = prediction_columns(predictions, taken)
        with path.open("wb") as file:
            for row, values in zip(rows, zip(*columns.values(), strict=True), strict=True):
                fields = row if isinstance(row, dict) else {"input": row}
                file.write(json_out.dumps({**fields, **dict(zip(columns, values, strict=True))}) + b"\n")


class ParquetFile:
    """Parquet; a scored file has the predictions as columns behind the others."""

    suffix = ".parquet"

    def __init__(self, path: Path) -> None:
        from pyarrow import parquet

        self._path = path
        self._file = parquet.ParquetFile(path)

    def parts(self, rows: int) -> Iterator[tuple[Records, int]]:
        """Parts of Arrow tables, each a sequence of one-row slices to its callers."""
        import pyarrow as pa

        total = max(self._file.metadata.num_rows, 1)
        size, done = self._path.stat().st_size, 0
        for batch in self._file.iter_batches(batch_size=rows):
            done += batch.num_rows
            yield _Slices(pa.Table.from_batches([batch])), size * done // total

    def decode(self, records: Records, reader: TableReader) -> Payload:
        """By the server's own codec."""
        return rows_in.from_arrow(_table(records), reader)

    def describe(self, record: Any) -> Any:
        """The row by column."""
        return record.to_pylist()[0]

    def write(self, path: Path, records: Records, predictions: Any) -> None:
        """A whole Parquet file."""
        import pyarrow as pa
        from pyarrow import parquet

        table = _table(records)
        for name, values in prediction_columns(predictions, set(table.column_names)).items():
            table = table.append_column(name, pa.array(values))
        parquet.write_table(table, path)


FORMATS: dict[str, Any] = {
    ".csv": CsvFile,
    ".jsonl": JsonLinesFile,
    ".ndjson": JsonLinesFile,
    ".parquet": ParquetFile,
}
"""File name endings and who reads them."""


class _Slices(Sequence[Any]):
    """An Arrow table as a sequence of rows whose slices are tables again."""

    def __init__(self, table: Any) -> None:
        self.table = table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self))
            return _Slices(self.table.slice(start, stop - start))
        return self.table.slice(index, 1)


def _table(records: Records) -> Any:
    """The one Arrow table of slices or of single rows."""
    import pyarrow as pa

    return records.table if isinstance(records, _Slices) else pa.concat_tables(list(records))


def _records(file: io.BufferedReader) -> Iterator[bytes]:
    """CSV records without their line ends; a quoted line break does not end one."""
    pending = b""
    for line in file:
        pending += line
        if pending.count(b'"') % 2 and len(pending) < _MAX_RECORD_BYTES:
            continue
        if pending.strip():
            yield pending.rstrip(b"\r\n")
        pending = b""
    if pending.strip():
        yield pending.rstrip(b"\r\n")


def _gather(lines: Iterator[bytes], rows: int, position: int) -> Iterator[tuple[list[bytes], int]]:
    part: list[bytes] = []
    for line in lines:
        part.append(line)
        position += len(line) + 1
        if len(part) == rows:
            yield part, position
            part = []
    if part:
        yield part, position


def prediction_columns(predictions: Any, taken: set[str]) -> dict[str, list[Any]]:
    """The predictions by new column name: a DataFrame's own names, else `prediction`; never one that is taken."""
    if isinstance(predictions, pd.DataFrame):
        columns = {str(name): predictions.iloc[:, n].tolist() for n, name in enumerate(predictions.columns)}
    else:
        columns = {"prediction": list(predictions)}
    named: dict[str, list[Any]] = {}
    for name, values in columns.items():
        free = name
        while free in taken or free in named:
            free = f"predicted_{free}"
        named[free] = values
    return named


def _cell(value: Any) -> Any:
    """Lists and objects in a CSV cell are JSON."""
    return json_out.dumps(value).decode() if isinstance(value, list | dict) else value
