"""The short way for plain parquet: the same results as the general way, and only where it can give them."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway_spark.direct import Direct
from slipway_spark.errors import JobError, WrongInput
from slipway_spark.job import run
from slipway_spark.plan import Plan
from tests.spark.connect import connect_server

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.requires("java")

Make = Callable[..., Any]
ROOT = Path(__file__).parents[2]
ROWS = 3000
UTC_TIME = pa.timestamp("us", "UTC")
PICKY = """
import pandas as pd
class CustomPreprocessor:
    def predict(self, frame):
        if (frame["x"] < 0).any():
            raise ValueError("negative")
        return pd.DataFrame({"twice": frame["x"] * 2, "big": frame["x"] > 10, "name": frame["x"].astype(str),
                             "when": pd.Timestamp("2026-01-31 12:00")})
"""
SLOW = """
import pathlib, time
class CustomPreprocessor:
    def predict(self, frame):
        with open("BEATS", "a") as file:
            file.write("x")
        time.sleep(0.2)
        return frame[["x"]] * 2
"""
DOUBLE = """
class CustomPreprocessor:
    def predict(self, frame):
        return frame[["x"]] * 2
"""
OUTPUTS = {"twice": "double", "big": "boolean", "name": "string", "when": "datetime"}


def everything() -> pa.Table:
    """Every type that goes the short way, with gaps, and some rows that the model refuses."""
    n = range(ROWS)
    moment = dt.datetime(2026, 3, 29, 1, 59, 59, 123456)
    columns = {
        "x": pa.array([-1.0 if i % 500 == 7 else i / 7 for i in n], pa.float64()),
        "tiny": pa.array([i % 100 for i in n], pa.int8()),
        "short": pa.array(list(n), pa.int16()),
        "int": pa.array([None if i % 3 == 0 else i for i in n], pa.int32()),
        "long": pa.array([i * 10**12 for i in n], pa.int64()),
        "float": pa.array([float("nan") if i == 5 else i / 3 for i in n], pa.float32()),
        "flag": pa.array([None if i % 5 == 0 else i % 2 == 0 for i in n], pa.bool_()),
        "text": pa.array([None if i % 4 == 0 else f"Zeile {i} ü" for i in n], pa.string()),
        "bytes": pa.array([bytes([i % 256]) for i in n], pa.binary()),
        "day": pa.array([dt.date(1969, 12, 30) + dt.timedelta(days=i) for i in n], pa.date32()),
        "instant": pa.array([moment.replace(tzinfo=dt.UTC) for _ in n], UTC_TIME),
        "local": pa.array([moment for _ in n], pa.timestamp("us")),
        "money": pa.array([Decimal(i) / 100 for i in n], pa.decimal128(12, 2)),
    }
    return pa.table(columns)


def general(made: Plan) -> Plan:
    """The same plan with an option that changes nothing, and that the short way leaves alone."""
    read = {**made.nodes[0], "options": {"mergeSchema": "false"}}
    return replace(made, execution="general", nodes=[read, *made.nodes[1:]])


def test_both_ways_give_the_same_rows_types_counts_and_rejects(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path
) -> None:
    source = tmp_path / "in.parquet"
    source.mkdir()
    table = everything()
    pq.write_table(table.slice(0, 2000), source / "a.parquet", row_group_size=300)
    pq.write_table(table.slice(2000), source / "b.parquet", compression="gzip")
    made = plan(source, model(PICKY, {"x": "double"}, OUTPUTS))
    assert Direct.of(spark, made) is not None
    assert Direct.of(spark, general(made)) is None
    short, long = run(spark, made), run(spark, general(made))
    assert short["counts"] == long["counts"] == {"in": ROWS, "scored": ROWS - 6, "rejected": 6, "written": ROWS - 6}
    assert short["rejects"]["reasons"] == long["rejects"]["reasons"]

    frames = [spark.read.parquet(result["outputs"][0]["path"]) for result in (short, long)]
    assert frames[0].schema == frames[1].schema
    tables = [frame.orderBy("short").toPandas() for frame in frames]
    pd.testing.assert_frame_equal(*tables)
    rejects = [spark.read.parquet(result["rejects"]["path"]).orderBy("row").collect() for result in (short, long)]
    assert rejects[0] == rejects[1]
    assert not list(Path(short["outputs"][0]["path"]).glob("_temporary")), "only what is published is there"


def nested(path: Path) -> None:
    (path / "day=1").mkdir(parents=True)
    pd.DataFrame({"x": [1.0]}).to_parquet(path / "day=1" / "a.parquet")


def differing(path: Path) -> None:
    path.mkdir()
    pd.DataFrame({"x": [1.0]}).to_parquet(path / "a.parquet")
    pd.DataFrame({"x": [1.0], "y": [1.0]}).to_parquet(path / "b.parquet")


SOURCES: dict[str, Callable[[Path], object]] = {
    "folders with partitions": nested,
    "several schemas": differing,
    "nanoseconds": lambda p: pd.DataFrame({"x": [1.0], "t": [pd.Timestamp("2026-01-01")]}).to_parquet(p),
    "unsigned numbers": lambda p: pd.DataFrame({"x": np.array([1], np.uint32)}).to_parquet(p),
    "nested columns": lambda p: pq.write_table(pa.table({"x": [1.0], "l": [[1, 2]]}), p),
    "a dictionary": lambda p: pd.DataFrame({"x": [1.0], "c": pd.Categorical(["a"])}).to_parquet(p),
    "no parquet": lambda p: p.write_bytes(b"nothing of the kind"),
    "nothing": lambda p: p.mkdir(),
}


@pytest.mark.parametrize("kind", SOURCES)
def test_data_that_spark_and_arrow_read_differently_goes_the_general_way(
    spark: SparkSession, plan: Make, model: Make, tmp_path: Path, kind: str
) -> None:
    SOURCES[kind](tmp_path / "in.parquet")
    made = plan(tmp_path / "in.parquet", model(DOUBLE, {"x": "double"}, {"twice": "double"}))
    assert Direct.of(spark, made) is None


CHANGES: dict[str, tuple[int, dict[str, Any]]] = {
    "a schema": (0, {"schema": "x DOUBLE"}),
    "csv": (0, {"format": "csv"}),
    "a pattern": (0, {"path": "/data/*.parquet"}),
    "a remote store": (0, {"path": "s3://bucket/in.parquet"}),
    "partitions": (2, {"partitions": ["x"]}),
    "orc": (2, {"format": "orc"}),
    "an option": (2, {"options": {"parquet.bloom.filter.enabled#x": "true"}}),
    "another codec": (2, {"options": {"compression": "brotli"}}),
    "a remote output": (2, {"path": "s3://bucket/out"}),
    "another input": (2, {"input": "rows"}),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_a_definition_that_asks_for_more_goes_the_general_way(
    spark: SparkSession, plan: Make, model: Make, tmp_path: Path, kind: str
) -> None:
    pd.DataFrame({"x": [1.0]}).to_parquet(tmp_path / "in.parquet")
    made = plan(tmp_path / "in.parquet", model(DOUBLE, {"x": "double"}, {"twice": "double"}))
    assert Direct.of(spark, made) is not None
    node, change = CHANGES[kind]
    nodes = [{**n, **change} if i == node else n for i, n in enumerate(made.nodes)]
    assert Direct.of(spark, replace(made, nodes=nodes)) is None


def test_the_work_is_dealt_out_as_spark_does(spark: SparkSession, plan: Make, model: Make, tmp_path: Path) -> None:
    pq.write_table(pa.table({"x": np.arange(8000.0)}), tmp_path / "in.parquet", row_group_size=1000)
    made = plan(tmp_path / "in.parquet", model(DOUBLE, {"x": "double"}, {"twice": "double"}))
    settings = {"spark.sql.files.openCostInBytes": "4m", "spark.sql.files.maxPartitionBytes": "9000b"}
    for room, tasks in (("128MB", 2), ("1", 8)):
        for name, value in {**settings, "spark.sql.files.maxPartitionBytes": room}.items():
            spark.conf.set(name, value)
        direct = Direct.of(spark, made)
        assert direct is not None
        assert len(direct.tasks) == tasks
        assert sorted(group.number for task in direct.tasks for group in task) == list(range(8))
    result = run(spark, made)
    for name in settings:
        spark.conf.unset(name)
    written = pq.read_table(result["outputs"][0]["path"])["twice"].to_pylist()
    assert sorted(written) == [2.0 * n for n in range(8000)]
    assert len(list(Path(result["outputs"][0]["path"]).glob("part-*.parquet"))) == 8


def test_a_file_that_is_broken_in_the_middle_is_named_and_nothing_is_published(
    spark: SparkSession, plan: Make, model: Make, tmp_path: Path
) -> None:
    source = tmp_path / "in.parquet"
    pq.write_table(pa.table({"x": np.random.default_rng(1).random(50_000)}), source, compression="gzip")
    data = bytearray(source.read_bytes())
    data[1000:200_000] = bytes(199_000)
    source.write_bytes(data)
    made = plan(source, model(DOUBLE, {"x": "double"}, {"twice": "double"}))
    assert Direct.of(spark, made) is not None, "its end, where the schema is, is whole"
    with pytest.raises(WrongInput, match=r"Node 'out': The file file:/.*in\.parquet cannot be read"):
        run(spark, made)
    assert not list((tmp_path / "out").glob("execution=*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with no room to speak of."""
    folder = tmp_path / "small"
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)], check=True)
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.requires("tmpfs mounts")
@pytest.mark.parametrize("way", [lambda p: p, general], ids=["short", "general"])
def test_a_full_disk_fails_in_one_sentence_and_a_rerun_with_room_succeeds(
    spark: SparkSession, plan: Make, model: Make, tmp_path: Path, small_disk: Path, way: Callable[[Plan], Plan]
) -> None:
    pq.write_table(pa.table({"x": np.random.default_rng(1).random(200_000)}), tmp_path / "in.parquet")
    made = way(plan(tmp_path / "in.parquet", model(DOUBLE, {"x": "double"}, {"twice": "double"})))
    made = replace(made, nodes=[*made.nodes[:2], {**made.nodes[2], "path": str(small_disk / "out")}])
    with pytest.raises(JobError, match=r"Node 'out': The disk is full: nothing was published; free space") as failed:
        run(spark, made)
    assert not isinstance(failed.value, WrongInput), "it may pass"
    assert not list((small_disk / "out").rglob("*.parquet")), "the room that it took is given back"
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    assert run(spark, made)["counts"]["written"] == 200_000


def until(is_so: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 90
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.2)


def is_still(beats: Path) -> bool:
    """Whether nobody scores any more: there is a beat for each batch."""
    before = beats.stat().st_size
    time.sleep(1)
    return beats.stat().st_size == before


def test_a_spark_connect_server_takes_the_short_way_too_and_stops_with_the_task(
    plan: Make, model: Make, tmp_path: Path
) -> None:
    beats = tmp_path / "beats"
    beats.touch()
    pq.write_table(pa.table({"x": np.arange(8000.0)}), tmp_path / "in.parquet", row_group_size=1000)
    with connect_server() as connection:
        remote = f"sc://{connection['host']}:{connection['port']}"
        plan(tmp_path / "in.parquet", model(DOUBLE, {"x": "double"}, {"twice": "double"}), remote=remote)
        command = [sys.executable, str(ROOT / "include/spark/slipway_spark/__main__.py")]
        command += ["--plan", str(tmp_path / "plan.json"), "--result", str(tmp_path / "result.json")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)

        # The task that waits for a second job is killed: the job ends, and the server's session is free again.
        slow = model(SLOW.replace("BEATS", str(beats)), {"x": "double"}, {"twice": "double"}, "slow")
        conf = {"spark.sql.execution.arrow.maxRecordsPerBatch": "2"}
        with subprocess.Popen(["sleep", "600"]) as task:
            plan(tmp_path / "in.parquet", slow, remote=remote, owner=task.pid, conf=conf, execution="killed")
            command[command.index("--result") + 1] = str(tmp_path / "none.json")
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as job:
                until(lambda: beats.stat().st_size)
                task.kill()
                task.wait()
                said, _ = job.communicate(timeout=60)
        assert "The task that waited for this job has gone" in said
        until(lambda: is_still(beats))
    assert not list((tmp_path / "out").rglob("_slipway")), "what was staged is removed"
    assert done.returncode == 0, done.stdout + done.stderr
    assert "read and write the parquet" in done.stdout
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["counts"]["written"] == 8000
    written = pq.read_table(result["outputs"][0]["path"])["twice"].to_pylist()
    assert sorted(written) == [2.0 * n for n in range(8000)]
