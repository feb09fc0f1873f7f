"""The short way for read → score → write of parquet: Spark's tasks read and write the files themselves, with Arrow.

On the general way, Spark's JVM turns parquet into rows, rows into Arrow for Python, Arrow into rows again and rows into
parquet; that takes most of the time of such a workflow. Here the JVM only hands out tasks. What is checked, counted,
rejected and published stays the same. Whatever this way cannot do goes the general one: other formats, options, folders
with partitions, remote stores, types that Spark and Arrow see differently, files of several schemas.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway_spark.places import local
from slipway_spark.progress import Counted, say
from slipway_spark.splits import RowGroup, WriteTask, file_schema, output_schema, split_function

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession

    from slipway_spark.plan import Plan

__all__ = ["Direct"]

_GLOB = re.compile(r"[*?\[\]{},\\]")
_MAX_FILES = 10_000
_CODECS = {"none": "NONE", "uncompressed": "NONE", "snappy": "SNAPPY", "gzip": "GZIP", "zstd": "ZSTD"}
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
# Where a Connect server does not say how many cores it has.
_PARALLELISM = 8


@dataclass(frozen=True)
class Direct:
    """A plan that can go the short way.

    Args:
        plan: its nodes are read, score and write.
        schema: the input files' schema.
        tasks: the row groups that each task reads.
    """

    plan: Plan
    schema: pa.Schema
    tasks: list[list[RowGroup]]

    @classmethod
    def of(cls, spark: SparkSession, plan: Plan) -> Direct | None:
        """Return the short way for a plan; None if it must go the general one."""
        if [node["type"] for node in plan.nodes] != ["read", "score", "write"]:
            return None
        read, score, write = plan.nodes
        if score["input"] != read["id"] or write["input"] != score["id"]:
            return None
        if (read["format"], write["format"]) != ("parquet", "parquet") or read["schema"] or read["options"]:
            return None
        if write["partitions"] or set(write["options"]) - {"compression"} or _codec(spark, write) is None:
            return None
        files = _files(read["path"])
        if not files or local(write["path"]) is None:
            return None
        found = _row_groups(files)
        return None if found is None else cls(plan, found[0], _tasks(found[1], spark))

    def write(self, spark: SparkSession, frame: DataFrame, names: list[str], staging: str) -> tuple[int, int]:
        """Score all rows and leave the good ones in `staging`; return how many were read, and how many rejected.

        Args:
            spark: the session.
            frame: the input as Spark sees it.
            names: the columns that the model takes.
            staging: where the output's files are to be.

        Raises:
            Exception: whatever Spark raises for a task that failed.
        """
        _, score, write = self.plan.nodes
        model = self.plan.models[score["id"]]
        folder = local(staging)
        assert folder is not None  # noqa: S101  # `of` has looked
        # Tasks write here; one finished try of each is moved up, and the others go with the folder.
        tries = folder / "_temporary"
        tries.mkdir(parents=True)
        kept = frame.columns if score["keep"] is None else score["keep"]
        task = WriteTask(
            place=model.place,
            names=tuple(names),
            kept=tuple(kept),
            schema=output_schema(self.schema, kept, model.outputs, score["names"]),
            folder=str(tries),
            codec=_codec(spark, write) or "SNAPPY",
            batch_rows=int(str(spark.conf.get("spark.sql.execution.arrow.maxRecordsPerBatch", "10000"))),
        )
        say(f"Spark's tasks read and write the parquet of node '{score['id']}' themselves: {len(self.tasks)} of them.")
        with Counted(spark) as counted:
            ids = spark.range(0, len(self.tasks), 1, len(self.tasks))
            work = split_function(task, self.tasks, counted.accumulators)
            schema = "task long, file string, came long, lost long"
            done = ids.mapInArrow(work, schema).collect()
        for part in done:
            if part["file"]:
                name = f"part-{part['task']:05d}.{task.codec.lower()}.parquet"
                (tries / part["file"]).rename(folder / name)
        shutil.rmtree(tries, ignore_errors=True)
        return sum(part["came"] for part in done), sum(part["lost"] for part in done)


def _codec(spark: SparkSession, write: dict[str, Any]) -> str | None:
    named = write["options"].get("compression") or spark.conf.get("spark.sql.parquet.compression.codec", "snappy")
    return _CODECS.get(str(named).lower())


def _files(path: str) -> list[Path] | None:
    """The files that Spark would read; None if it would read them in another way than one after the other."""
    root = local(path)
    if root is None or _GLOB.search(path):
        return None
    if root.is_file():
        return [root]
    try:
        entries = sorted(entry for entry in root.iterdir() if not entry.name.startswith(("_", ".")))
    except OSError:
        return None
    if len(entries) > _MAX_FILES or not all(entry.is_file() for entry in entries):
        return None
    return entries


def _row_groups(files: list[Path]) -> tuple[pa.Schema, list[RowGroup]] | None:
    """The schema that all files have, and their row groups; None if they differ, or are none of ours to read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema: pa.Schema | None = None
    groups = []
    for file in files:
        try:
            with pq.ParquetFile(file) as opened:
                own = file_schema(opened.schema_arrow)
                metadata = opened.metadata
        except (pa.ArrowException, OSError):
            return None  # Spark says what is wrong with it
        if own is None or (schema is not None and own != schema):
            return None
        schema = own
        for number in range(metadata.num_row_groups):
            size = sum(metadata.row_group(number).column(c).total_compressed_size for c in range(metadata.num_columns))
            groups.append(RowGroup(str(file), number, size))
    return None if schema is None else (schema, groups)


def _tasks(groups: list[RowGroup], spark: SparkSession) -> list[list[RowGroup]]:
    """Deal the row groups out as Spark deals files out (org.apache.spark.sql.execution.datasources.FilePartition)."""
    cost = _bytes(spark, "spark.sql.files.openCostInBytes", 4 * _UNITS["m"])
    most = _bytes(spark, "spark.sql.files.maxPartitionBytes", 128 * _UNITS["m"])
    cores = spark.sparkContext.defaultParallelism if hasattr(spark, "_jsparkSession") else _PARALLELISM
    room = min(most, max(cost, sum(group.size + cost for group in groups) // max(cores, 1)))
    tasks: list[list[RowGroup]] = [[]]
    used = 0
    for group in groups:
        if tasks[-1] and used + group.size > room:
            tasks.append([])
            used = 0
        tasks[-1].append(group)
        used += group.size + cost
    return tasks


def _bytes(spark: SparkSession, name: str, default: int) -> int:
    found = re.fullmatch(r"(\d+)([kmgt]?)b?", str(spark.conf.get(name, str(default))).strip().lower())
    return int(found.group(1)) * _UNITS[found.group(2)] if found else default
