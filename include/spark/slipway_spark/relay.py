"""The Spark Python worker's side of scoring: one process for each model, kept for as long as the worker lives.

Spark keeps its Python workers and gives them task after task, so a model is loaded once for each worker and not once
for each task. Spark's Python needs pyarrow for this, and nothing of the models' own.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_spark import wire

# Spark runs a task on each core: more threads in a model would only fight over them.
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS")
_PIPE_BYTES = 1024 * 1024
# A row among 16,384 costs 15 deaths of the process to find.
_MOST_DEATHS = 64
_DEATHS_OF_ALL = 8
_INHERITED = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "TZ")


class ModelProcessError(Exception):
    """The model's process cannot be started or has died; one sentence."""


class ModelDiedError(ModelProcessError):
    """The model's process died on a batch; one sentence.

    Args:
        status: what it ended with, below 0 for a signal.
    """

    def __init__(self, status: int) -> None:
        super().__init__(
            f"The model's process ended with status {status} while it scored a batch: it ran out of memory or "
            "crashed; see the executor's log, or give spark.sql.execution.arrow.maxRecordsPerBatch a smaller value."
        )
        self.status = status


class ModelBrokenError(Exception):
    """The model cannot be loaded, and could not be the next time; one sentence."""


@dataclass(frozen=True)
class ModelPlace:
    """Where an executor finds a model and its environment.

    Args:
        model: model directory, absolute, or a name below the root of Spark's shipped files.
        environment: virtual environment, absolute, or the name of a shipped `site-packages`.
        code: entries of PYTHONPATH with `slipway_scoring` and `slipway_spark`, absolute or shipped.
        python: version of the environment's Python, such as `3.11`.
        outputs: declared outputs, JSON text of [[name, kind], …].
    """

    model: str
    environment: str
    code: tuple[str, ...]
    python: str
    outputs: str

    def command(self, shipped: Path) -> tuple[list[str], dict[str, str]]:
        """Return how to start the process: arguments and environment."""
        paths = [str(shipped / entry) for entry in self.code]
        environment = shipped / self.environment
        interpreter = environment / "bin" / "python"
        flags = ["-s"]
        if not interpreter.exists():
            # A shipped environment is its packages alone: an interpreter of the same version runs them.
            interpreter = Path(_interpreter(self.python))
            paths.append(str(environment))
            flags.append("-S")
        variables = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        variables |= dict.fromkeys(_THREADS, "1")
        variables |= {"PYTHONPATH": os.pathsep.join(paths), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
        model = str(shipped / self.model)
        arguments = ["-m", "slipway_spark.child", "--model", model, "--outputs", self.outputs]
        return [str(interpreter), *flags, *arguments], variables


def _interpreter(version: str) -> str:
    own = ".".join(map(str, sys.version_info[:2]))
    found = getattr(sys, "_base_executable", sys.executable) if own == version else shutil.which(f"python{version}")
    if found is None:
        raise ModelProcessError(
            f"This executor has no python{version}, which the model's environment needs: install it on every node, or "
            "give Spark that Python."
        )
    return str(found)


class ModelProcess:
    """A running model: send a batch, get its results."""

    def __init__(self, place: ModelPlace, shipped: Path) -> None:
        command, variables = place.command(shipped)
        try:
            self._process = subprocess.Popen(
                command, env=variables, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
            )
        except OSError as error:
            raise ModelProcessError(f"{command[0]} cannot be started ({error.strerror}) to load the model.") from error
        for pipe in (self._process.stdin, self._process.stdout):
            # A batch is megabytes: fewer turns of the two processes than with the 64 KiB that pipes have.
            with suppress(OSError, AttributeError):
                fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)  # type: ignore[arg-type]

    @property
    def is_alive(self) -> bool:
        """Whether it can take a batch."""
        return self._process.poll() is None

    def score(self, body: memoryview) -> bytearray:
        """Send a batch as an Arrow IPC stream, and return the answer, one too.

        Raises:
            ModelBrokenError: the model does not load.
            ModelDiedError: its process dies on this batch.
        """
        assert self._process.stdin is not None  # noqa: S101  # both are pipes
        assert self._process.stdout is not None  # noqa: S101
        with suppress(BrokenPipeError):  # it left an answer that says why, or none
            wire.write_request(self._process.stdin, body)  # type: ignore[arg-type]
        answer = wire.read_answer(self._process.stdout)  # type: ignore[arg-type]
        if answer is None:
            raise ModelDiedError(self._process.wait())
        status, result = answer
        if status == wire.BROKEN:
            self._process.wait()
            raise ModelBrokenError(" ".join(bytes(result).decode().split()))
        return result


_processes: dict[ModelPlace, ModelProcess] = {}
_lock = threading.Lock()


def model_process(place: ModelPlace) -> ModelProcess:
    """Return this worker's process for a model, started when first needed."""
    from pyspark import SparkFiles

    with _lock:
        process = _processes.get(place)
        if process is None or not process.is_alive:
            process = _processes[place] = ModelProcess(place, Path(SparkFiles.getRootDirectory()))
        return process


def scoring_function(place: ModelPlace, names: list[str]) -> Callable[[Iterator[Any]], Iterator[Any]]:
    """Return the function that Spark calls for each task: from batches of input columns to structs of results."""

    def score(batches: Iterator[Any]) -> Iterator[Any]:
        import pyarrow as pa

        for columns in batches:
            arrays = [columns] if isinstance(columns, pa.Array) else list(columns)
            yield score_batch(place, arrays, names).to_struct_array()

    return score


def score_batch(place: ModelPlace, columns: Sequence[Any], names: Sequence[str]) -> Any:
    """Score Arrow arrays, the model's input columns; return a record batch: `wire.REASON`, then one column an output.

    A row that the model's process dies of is rejected like any other that cannot be scored.

    Raises:
        ModelBrokenError: the model does not load.
        ModelProcessError: its process cannot be started, or dies whatever it is given.
    """
    import pyarrow as pa

    batch = pa.RecordBatch.from_arrays([_unzoned(array) for array in columns], list(names))
    try:
        return _zoned(_ask(place, batch))
    except ModelDiedError as death:
        if not batch.num_rows:
            raise
        return _zoned(_survivors(place, batch, death))


def _ask(place: ModelPlace, batch: Any) -> Any:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    answer = model_process(place).score(memoryview(sink.getvalue()))
    with pa.ipc.open_stream(pa.py_buffer(answer)) as reader:
        return reader.read_next_batch()


def _survivors(place: ModelPlace, batch: Any, death: ModelDiedError) -> Any:
    """Halve a batch that the model's process died of, until the rows that it dies of stand alone.

    Every death costs loading the model again, so they are counted: all halves of one size before smaller ones, so that
    a model that survives nothing is known for one after a few.
    """
    import pyarrow as pa

    answers: dict[int, Any] = {}
    fatal = deque([(0, batch, death)])
    deaths, survived = 1, False
    while fatal:
        start, part, death = fatal.popleft()
        if part.num_rows == 1:
            answers[start] = _refused(place, death)
            continue
        if deaths >= (_MOST_DEATHS if survived else _DEATHS_OF_ALL):
            raise death
        half = part.num_rows // 2
        for row, piece in ((start, part.slice(0, half)), (start + half, part.slice(half))):
            try:
                answers[row] = _ask(place, piece)
                survived = True
            except ModelDiedError as again:  # it is what this is about
                deaths += 1
                fatal.append((row, piece, again))
    if not survived and batch.num_rows > 1:
        raise death
    joined = pa.Table.from_batches([answers[row] for row in sorted(answers)]).combine_chunks()
    return joined.to_batches()[0]


def _refused(place: ModelPlace, death: ModelDiedError) -> Any:
    """The answer for a row that killed the process."""
    import pyarrow as pa

    from slipway_spark.kinds import arrow_type

    declared = json.loads(place.outputs)
    reason = f"The model's process ended with status {death.status} on this row: it crashed, or ran out of memory."
    columns = [pa.array([reason]), *(pa.nulls(1, arrow_type(kind)) for _, kind in declared)]
    return pa.RecordBatch.from_arrays(columns, [wire.REASON, *(name for name, _ in declared)])


def _unzoned(array: Any) -> Any:
    """Spark's timestamps are UTC; models know times without a zone."""
    import pyarrow as pa

    if pa.types.is_timestamp(array.type) and array.type.tz:
        return array.cast(pa.timestamp(array.type.unit, "UTC")).cast(pa.timestamp(array.type.unit))
    return array


def _zoned(batch: Any) -> Any:
    import pyarrow as pa

    arrays = [
        column.cast(pa.timestamp("us", "UTC")) if pa.types.is_timestamp(column.type) else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(arrays, batch.schema.names)
