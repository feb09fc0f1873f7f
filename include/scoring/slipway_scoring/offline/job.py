"""One offline run: every input file becomes parts, each written whole or not at all.

A part holds a fixed range of rows, so after an interruption the parts that are there are skipped and the rest is done.
A row that cannot be scored goes to the part's rejects, with the reason; the others are scored.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd

from slipway_scoring.codecs import json_out
from slipway_scoring.errors import BadPayload
from slipway_scoring.model import Model
from slipway_scoring.offline.formats import FORMATS, Format, Records, open_format
from slipway_scoring.offline.progress import Progress

RUN_FILE = "_run.json"
logger = logging.getLogger(__name__)


class JobError(Exception):
    """The run cannot go on; one sentence."""


class Job:
    """Scores the files under `source` into the folder `output`.

    Args:
        model: the loaded model.
        source: a file or a folder.
        output: where the parts go; may hold the parts of an interrupted run of the same job.
        part_rows: rows in one part.

    Raises:
        JobError: nothing to score, or `output` belongs to another job.
    """

    def __init__(self, model: Model, source: Path, output: Path, part_rows: int) -> None:
        self._model = model
        self._source = source
        self._output = output
        self._part_rows = part_rows
        self._files = _input_files(source)
        self._done = self._rows = self._rejected = self._skipped = 0

    def run(self, *, show_progress: bool) -> str:
        """Score everything; returns a summary in one line."""
        self._claim_output()
        total = sum(file.stat().st_size for file in self._files)
        progress = Progress(total, show=show_progress)
        before = 0
        for file in self._files:
            for done in self._score_file(file):
                self._done = before + done
                progress.update(self._done, self._rows, self._rejected)
            before += file.stat().st_size
        progress.close(before, self._rows, self._rejected)
        again = f", {self._skipped} parts were there already" if self._skipped else ""
        return f"{self._rows} rows scored, {self._rejected} rejected, {len(self._files)} files{again}: {self._output}"

    def _claim_output(self) -> None:
        """Note what this run is, or check that the parts in the folder come from the same."""
        identity = {
            "model": self._model.name,
            "version": self._model.version,
            "bundle_digest": self._model.bundle_digest,
            "part_rows": self._part_rows,
            "files": [self._identity(file) for file in self._files],
        }
        try:
            self._output.mkdir(parents=True, exist_ok=True)
            note = self._output / RUN_FILE
            if note.is_file():
                if json.loads(note.read_bytes()) != identity:
                    raise JobError(
                        f"{self._output} holds the results of another run (see {RUN_FILE}): give --output an empty "
                        "folder, or the same model, unchanged input and --part-rows."
                    )
            elif any(self._output.iterdir()):
                raise JobError(f"{self._output} is not empty: give --output an empty folder.")
            else:
                _write_whole(note, json.dumps(identity, indent=1).encode())
        except (OSError, ValueError) as error:
            raise JobError(f"{self._output} cannot be used ({error}): give --output a writable folder.") from error

    def _identity(self, file: Path) -> list[Any]:
        """What tells an input file from another one, or from itself when it has been written again."""
        about = file.stat()
        return [str(file.relative_to(self._root())), about.st_size, about.st_mtime_ns]

    def _root(self) -> Path:
        return self._source if self._source.is_dir() else self._source.parent

    def _score_file(self, file: Path) -> Iterator[int]:
        # The file's whole name, ending too: no two inputs have the same.
        folder = self._output / file.relative_to(self._root())
        folder.mkdir(parents=True, exist_ok=True)
        try:
            source = open_format(file)
        except Exception as error:  # BadPayload, or what Arrow raises on a broken file
            raise JobError(f"{file} cannot be read ({' '.join(str(error).split())}): mend or remove it.") from error
        for number, (records, position) in enumerate(source.parts(self._part_rows)):
            part = folder / f"part-{number:06}{source.suffix}"
            if part.exists():
                self._skipped += 1
            else:
                self._score_part(source, records, part)
            yield position

    def _score_part(self, source: Format, records: Records, part: Path) -> None:
        scored: list[tuple[Records, Any]] = []
        rejects: list[dict[str, Any]] = []
        for chunk, outcome in self._bisect(source, records):
            if isinstance(outcome, str):
                rejects.append({"reason": outcome, "record": source.describe(chunk[0])})
            else:
                scored.append((chunk, outcome))
        good = records[:0] if not scored else scored[0][0]
        if len(scored) > 1:
            good = [record for chunk, _ in scored for record in chunk]
        if rejects:
            lines = b"".join(orjson.dumps(reject, default=str) + b"\n" for reject in rejects)
            _write_whole(part.with_name(part.name.replace("part-", "rejects-")).with_suffix(".jsonl"), lines)
        partial = part.with_name(part.name + ".partial")
        source.write(partial, good, _joined([outcome for _, outcome in scored]) if scored else [])
        _settle(partial, part)
        self._rows += len(good)
        self._rejected += len(rejects)

    def _bisect(self, source: Format, records: Records) -> Iterator[tuple[Records, Any]]:
        """Chunks with their predictions, or single records with the reason why they have none."""
        try:
            payload = source.decode(records, self._model.reader)
            yield records, _rows_of(self._model.predict([payload]), len(records))
        except Exception as error:  # noqa: BLE001 -- whatever a parser or a model raises: the rows are at fault, find which
            if len(records) == 1:
                yield records, " ".join(str(error).split())[:500] or type(error).__name__
                return
            middle = len(records) // 2
            yield from self._bisect(source, records[:middle])
            yield from self._bisect(source, records[middle:])


def _rows_of(result: Any, count: int) -> Any:
    """The model's output as a DataFrame, or as a list of one JSON value a row."""
    if isinstance(result, pd.Series):
        result = result.to_numpy()
    if isinstance(result, dict) and all(isinstance(value, np.ndarray | list) for value in result.values()):
        result = pd.DataFrame({name: list(value) for name, value in result.items()})
    if isinstance(result, pd.DataFrame):
        rows: Any = result
    else:
        rows = orjson.loads(json_out.dumps(result)) if not isinstance(result, np.ndarray) else result.tolist()
    if not hasattr(rows, "__len__") or len(rows) != count:
        raise BadPayload("The model's output has not one prediction a row.")
    return rows


def _joined(outcomes: list[Any]) -> Any:
    if len(outcomes) == 1:
        return outcomes[0]
    if isinstance(outcomes[0], pd.DataFrame):
        return pd.concat(outcomes, ignore_index=True)
    return [value for outcome in outcomes for value in outcome]


def _input_files(source: Path) -> list[Path]:
    if source.is_file():
        if source.suffix.lower() not in FORMATS:
            raise JobError(f"{source} has an unknown ending: give a file that ends in {', '.join(FORMATS)}.")
        return [source]
    found = sorted(path for path in source.rglob("*") if path.is_file() and path.suffix.lower() in FORMATS)
    if not found:
        raise JobError(f"{source} has no input: give --input a file or folder with {', '.join(FORMATS)} files.")
    return found


def _write_whole(path: Path, data: bytes) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(data)
    _settle(partial, path)


def _settle(partial: Path, path: Path) -> None:
    """Make a finished file appear under its name: on disk first, then by one rename."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)
