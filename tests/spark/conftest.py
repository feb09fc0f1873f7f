"""A Spark session for the tests of the job, and models that it scores with.

The models run in an environment of their own: a folder with a virtual environment's interpreter. Making one from a lock
needs the network and half a minute, so the tests use this very interpreter for it, in a process of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from slipway_spark.plan import Plan

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

ROOT = Path(__file__).parents[2]
CODE = [str(ROOT / "include/scoring"), str(ROOT / "include/spark")]
MLMODEL = """\
flavors:
  python_function:
    loader_module: bundle_pyfunc
    code: code
    data: data/bundle
"""


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkSession]:
    """One embedded Spark for all tests of the job."""
    from pyspark.sql import SparkSession

    variables = {
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT / "include/spark"),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.ui.showConsoleProgress", "false")
        .config("spark.log.level", "ERROR")
        .config("spark.sql.shuffle.partitions", "2")
        .config("spark.driver.memory", "1g")
        .config("spark.sql.csv.parser.columnPruning.enabled", "false")
        .config("spark.local.dir", str(tmp_path_factory.mktemp("spark")))
        .getOrCreate()
    )
    yield session
    session.stop()
    for name, value in before.items():
        os.environ.pop(name, None) if value is None else os.environ.update({name: value})


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment's folder with this interpreter in it."""
    folder = tmp_path_factory.mktemp("environment")
    (folder / "bin").mkdir()
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return folder


@pytest.fixture
def model(tmp_path: Path, environment: Path) -> Callable[..., dict[str, Any]]:
    """Makes a model of code, and returns it as a plan names it."""

    def make(code: str, inputs: dict[str, str], outputs: dict[str, str], name: str = "model") -> dict[str, Any]:
        folder = tmp_path / name
        (folder / "data/bundle/code").mkdir(parents=True)
        (folder / "data/bundle/artifacts").mkdir()
        (folder / "code").mkdir()
        (folder / "slipway").mkdir()
        (folder / "MLmodel").write_text(MLMODEL)
        (folder / "data/bundle/code/custom_preprocess.py").write_text(textwrap.dedent(code))
        shutil.copy(ROOT / "include/scoring/slipway_scoring/bundle_pyfunc.py", folder / "code")
        columns = [{"name": n, "type": kind, "required": True} for n, kind in inputs.items()]
        signature = {"inputs": json.dumps(columns), "outputs": None, "params": None}
        (folder / "slipway/manifest.json").write_text(json.dumps({"signature": signature}))
        return {
            "label": f"Model {name} version 1",
            "model": str(folder),
            "environment": str(environment),
            "code": CODE,
            "python": f"{sys.version_info.major}.{sys.version_info.minor}",
            "inputs": [[n, kind, True] for n, kind in inputs.items()],
            "outputs": list(outputs.items()),
        }

    return make


@pytest.fixture
def plan(tmp_path: Path) -> Callable[..., Plan]:
    """Makes the plan that reads, scores and writes."""

    def make(source: Path, use: dict[str, Any], **changes: Any) -> Plan:
        options = {"header": "true"} if source.suffix == ".csv" else {}
        kind = changes.pop("format", source.suffix.strip(".") or "parquet")
        nodes = [
            {"id": "rows", "type": "read", "format": kind, "path": str(source),
             "schema": changes.pop("schema", None), "options": options | changes.pop("options", {})},
            {"id": "scored", "type": "score", "input": "rows", "keep": changes.pop("keep", None),
             "names": [name for name, _ in use["outputs"]]},
            {"id": "out", "type": "write", "input": "scored", "format": "parquet", "path": str(tmp_path / "out"),
             "mode": changes.pop("mode", "append"), "partitions": [], "options": {}},
        ]  # fmt: skip
        raw = {
            "execution": "run-1", "attempt": "try-1", "workflow": "sample", "nodes": nodes, "parameters": {},
            "models": {"scored": use}, "rejects": {"path": str(tmp_path / "rejects"), "max_share": 1.0}, **changes,
        }  # fmt: skip
        path = tmp_path / "plan.json"
        path.write_text(json.dumps(raw))
        return Plan.read(path)

    return make
