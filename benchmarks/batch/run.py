"""Rows per second of a score workflow, against `mlflow.pyfunc.spark_udf` and a plain Spark copy in the same run.

    python benchmarks/batch/run.py [--rows 1,5,20] [--masters local[1],local[2]] [--rounds 2] [--noise 0.01]
                                   [--home DIR] [--json FILE] [--plot FILE] [--airflow]

`--rows` in millions. For each number of rows and each master, one Spark session runs the copy, the peer and our job in
turn, each after one small warm-up round: reading 30 columns of parquet, writing them, and for the last two the two
columns that the breast-cancer bundle predicts. `--airflow` also starts a whole stack and takes the seconds from trigger
to result for 10,000 rows, cold (embedded Spark) and with a warm Spark Connect session.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
ROOMS = [str(ROOT), str(ROOT / "plugins"), *(str(ROOT / "include" / room) for room in ("spark", "stack", "scoring"))]
sys.path[:0] = ROOMS

from benchmarks.batch.data import make_data  # noqa: E402
from benchmarks.batch.model import make_model  # noqa: E402

MILLION = 1_000_000
WARM_UP_ROWS = 20_000
KINDS = ("copy", "spark_udf", "slipway")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", default="1")
    parser.add_argument("--masters", default=f"local[{os.cpu_count()}]")
    parser.add_argument("--noise", type=float, default=0.0)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--airflow", action="store_true")
    parser.add_argument("--session", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.session:
        _session(json.loads(options.session))
        return
    home = options.home or Path(tempfile.mkdtemp(prefix="slipway-batch-"))
    found: list[dict[str, Any]] = []
    try:
        use = make_model(home)
        warm_up = make_data(home / "warm-up", WARM_UP_ROWS)
        for millions in (float(part) for part in options.rows.split(",")):
            data = make_data(
                home / f"rows-{millions:g}-{options.noise:g}", int(millions * MILLION), noise=options.noise
            )
            for master in options.masters.split(","):
                measured = _measure(home, use, warm_up, data, master, options.rounds)
                found += measured
                _print(measured)
        if options.airflow:
            from benchmarks.batch.trigger import trigger_to_result

            found += trigger_to_result()
    finally:
        if options.home is None:
            shutil.rmtree(home, ignore_errors=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2))
    if options.plot:
        from benchmarks.batch.plot import plot

        plot(found, options.plot)


def _measure(
    home: Path, use: dict[str, Any], warm_up: Path, data: Path, master: str, rounds: int
) -> list[dict[str, Any]]:
    """One session in a process of its own, so that no other run's memory or caches count."""
    task = {
        "home": str(home),
        "use": use,
        "warm_up": str(warm_up),
        "data": str(data),
        "master": master,
        "rounds": rounds,
    }
    environment = {
        **os.environ,
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT / "include" / "spark"),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    command = [sys.executable, __file__, "--session", json.dumps(task)]
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def _session(task: dict[str, Any]) -> None:
    from pyspark.sql import SparkSession

    spark = (
        SparkSession.builder.master(task["master"])
        .config("spark.driver.memory", "2g")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        # The same for all three.
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "16384")
        .getOrCreate()
    )
    home = Path(task["home"])
    runs: dict[str, Callable[[str], None]] = {
        "copy": lambda data: _copy(spark, data, home / "out"),
        "spark_udf": lambda data: _peer(spark, data, home / "out", task["use"]),
        "slipway": lambda data: _ours(spark, data, home / "out", task["use"]),
    }
    measured: dict[str, list[tuple[float, int, float]]] = {kind: [] for kind in KINDS}
    rows = spark.read.parquet(task["data"]).count()
    for kind in KINDS:
        runs[kind](task["warm_up"])
    for _ in range(task["rounds"]):
        for kind in KINDS:
            with PeakMemory() as memory:
                started, busy = time.perf_counter(), cpu_seconds()
                runs[kind](task["data"])
                measured[kind].append((time.perf_counter() - started, memory.peak, cpu_seconds() - busy))
    spark.stop()
    results = [
        {
            "kind": kind,
            "rows": rows,
            "master": task["master"],
            "seconds": min(seconds for seconds, _, _ in measured[kind]),
            "spread": statistics.pstdev(seconds for seconds, _, _ in measured[kind]),
            "python_megabytes": max(peak for _, peak, _ in measured[kind]) / MILLION,
            "cpu_seconds": min(cpu for _, _, cpu in measured[kind]),
        }
        for kind in KINDS
    ]
    sys.stdout.write(json.dumps(results) + "\n")


def _copy(spark: Any, data: str, out: Path) -> None:
    spark.read.parquet(data).write.mode("overwrite").parquet(str(out / "copy"))


def _peer(spark: Any, data: str, out: Path, use: dict[str, Any]) -> None:
    import mlflow.pyfunc
    from pyspark.sql import functions as F  # noqa: N812

    types = ", ".join(f"{name} {kind}" for name, kind in use["outputs"])
    score = mlflow.pyfunc.spark_udf(spark, use["model"], result_type=types, env_manager="local")
    frame = spark.read.parquet(data)
    scored = frame.withColumn("scored", score(F.struct(*(name for name, _, _ in use["inputs"]))))
    columns = [*frame.columns, *(f"scored.{name}" for name, _ in use["outputs"])]
    scored.select(*columns).write.mode("overwrite").parquet(str(out / "peer"))


def _ours(spark: Any, data: str, out: Path, use: dict[str, Any]) -> None:
    from slipway_spark.job import run
    from slipway_spark.plan import ModelUse, Plan

    nodes = [
        {"id": "rows", "type": "read", "format": "parquet", "path": data, "schema": None, "options": {}},
        {"id": "scored", "type": "score", "input": "rows", "keep": None, "names": [n for n, _ in use["outputs"]]},
        {"id": "out", "type": "write", "input": "scored", "format": "parquet", "path": str(out / "slipway"),
         "mode": "overwrite", "partitions": [], "options": {}},
    ]  # fmt: skip
    rejects = {"path": str(out / "rejects"), "max_share": 1.0}
    run(spark, Plan("benchmark", "1", "benchmark", nodes, {}, {"scored": ModelUse.from_json(use)}, rejects))


def cpu_seconds() -> float:
    """CPU time of all processes below this one: on a machine that others use too, steadier than a clock."""
    import psutil

    total = 0.0
    for process in psutil.Process().children(recursive=True):
        try:
            total += sum(process.cpu_times()[:4])
        except psutil.Error:
            continue
    return total


class PeakMemory:
    """The most resident memory of all Python processes below this one, looked at ten times a second."""

    def __init__(self) -> None:
        self.peak = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        import psutil

        here = psutil.Process()
        while not self._over.wait(0.1):
            total = 0
            for process in here.children(recursive=True):
                try:
                    if "java" not in process.name():
                        total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.peak = max(self.peak, total)


def _print(measured: list[dict[str, Any]]) -> None:
    by_kind = {result["kind"]: result for result in measured}
    rows = measured[0]["rows"]
    rate = {kind: rows / result["seconds"] for kind, result in by_kind.items()}
    print(f"\n{rows:,} rows, {measured[0]['master']}")
    for kind in KINDS:
        memory = by_kind[kind]["python_megabytes"]
        seconds, cpu = by_kind[kind]["seconds"], by_kind[kind]["cpu_seconds"]
        print(f"  {kind:10} {rate[kind]:>12,.0f} rows/s  {seconds:8.2f} s  {cpu:8.2f} s of CPU  {memory:6.0f} MB")
    print(f"  slipway is {rate['slipway'] / rate['spark_udf']:.2f} × spark_udf (at least 2), "
          f"{rate['slipway'] / rate['copy']:.0%} of a plain copy (at least 50 %)", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
