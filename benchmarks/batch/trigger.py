"""Seconds from trigger to result for 10,000 rows through a whole Airflow: embedded Spark, and a warm session."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from benchmarks.batch.data import make_data
from tests.spark.connect import connect_server
from tests.stack.running import RunningStack, running_stack
from tests.system.steps import register

ROOT = Path(__file__).parents[2]
ROWS = 10_000
ROUNDS = 3
WORKFLOW = """
id: 1
name: benchmark
description: Ten thousand rows.
nodes:
  - {{id: rows, type: read, format: parquet, path: "{data}"}}
  - {{id: scored, type: score, input: rows, model: breast-cancer}}
  - {{id: out, type: write, input: scored, path: out}}
"""


def trigger_to_result() -> list[dict[str, Any]]:
    """Take and print the median of three runs of each kind; models and environment are there in both."""
    seconds = {}
    for kind in ("cold", "warm"):
        with connect_server() if kind == "warm" else embedded() as connection:
            variables = {"AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(connection)}
            with running_stack(variables | _folder()) as stack:
                _define(stack)
                register(stack, (ROOT / "build/bundles/breast-cancer.zip").as_uri(), "breast-cancer")
                _run(stack)
                seconds[kind] = sorted(_run(stack) for _ in range(ROUNDS))[ROUNDS // 2]
    print(f"\n{ROWS:,} rows, from trigger to result: {seconds['cold']:.1f} s cold, {seconds['warm']:.1f} s with a warm "
          f"session, {seconds['warm'] / seconds['cold']:.0%} of it (at most a third)", flush=True)  # fmt: skip
    return [{"kind": f"trigger to result, {kind}", "seconds": value} for kind, value in seconds.items()]


def _folder() -> dict[str, str]:
    from tempfile import mkdtemp

    return {"AIRFLOW__SLIPWAY__WORKFLOWS_DIR": mkdtemp(prefix="slipway-batch-workflows-")}


def _define(stack: RunningStack) -> None:
    data = make_data(stack.stack.home / "data" / "rows", ROWS)
    folder = Path(os.environ["AIRFLOW__SLIPWAY__WORKFLOWS_DIR"])
    (folder / "benchmark.yaml").write_text(WORKFLOW.format(data=data))


def _run(stack: RunningStack) -> float:
    """One run; seconds by Airflow's clock from the trigger to the end of `publish`, when the result is there."""
    run = stack.succeed("score_workflow", {"workflowId": 1})
    queued = stack.airflow.request("GET", run.path)["queued_at"]
    published = stack.airflow.request("GET", f"{run.path}/taskInstances/publish")["end_date"]
    return (datetime.fromisoformat(published) - datetime.fromisoformat(queued)).total_seconds()


@contextmanager
def embedded() -> Iterator[dict[str, Any]]:
    """The connection of an embedded Spark."""
    yield {"conn_type": "spark", "host": "local[*]"}
