"""The job on a real cluster, with its model shipped there, while executors and the driver are killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from tests.spark.cluster import Cluster, running_cluster

pytestmark = pytest.mark.requires("java")

ROOT = Path(__file__).parents[2]
ROWS = 320
SLOW = """
import time
class CustomPreprocessor:
    def predict(self, frame):
        time.sleep(0.4)
        return frame[["x"]] * 2
"""
Make = Callable[..., Any]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with running_cluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The archive of an environment: what the model's process imports."""
    folder = tmp_path_factory.mktemp("packages")
    # A `.pth` would say it shorter, but a shipped environment is run without its `site`.
    for package in Path(pd.__file__).parents[1].iterdir():
        if package.name.partition(".")[0] in {"pandas", "numpy", "pyarrow", "yaml", "_yaml", "dateutil", "pytz",
                                              "tzdata", "six", "msgspec", "orjson", "uvloop"}:  # fmt: skip
            (folder / package.name).symlink_to(package)
    archive = tmp_path_factory.mktemp("archive") / "environment.tar.gz"
    pack(folder, archive)
    return archive


@pytest.fixture
def job(
    cluster: Cluster, packages: Path, model: Make, plan: Make, tmp_path: Path
) -> Callable[..., subprocess.Popen[str]]:
    """Starts the job, as the hook does for a cluster: model, environment and code are sent there."""
    use = model(SLOW, {"x": "double"}, {"twice": "double"})
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    pack(Path(use["model"]), shipped / "model.tar.gz")
    code = shipped / "slipway-code.zip"
    with zipfile.ZipFile(code, "w") as archive:
        for home in ("scoring", "spark"):
            for path in (ROOT / "include" / home).glob("slipway_*/**/*.py"):
                archive.write(path, path.relative_to(ROOT / "include" / home))
    use |= {"model": "model", "environment": "environment", "code": [code.name]}
    folder = tmp_path / "in.parquet"
    folder.mkdir()
    for part in range(16):
        numbers = [float(n) for n in range(part * ROWS // 16, (part + 1) * ROWS // 16)]
        pd.DataFrame({"x": numbers}).to_parquet(folder / f"{part}.parquet")

    def start(attempt: str, **changes: Any) -> subprocess.Popen[str]:
        plan(folder, use, attempt=attempt, format="parquet", **changes)
        command = [
            shutil.which("spark-submit", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}") or "",
            "--master", cluster.url, "--archives",
            f"{shipped / 'model.tar.gz'}#model,{packages}#environment",
            "--py-files", str(code), "--conf", "spark.executor.memory=512m", "--conf", "spark.driver.host=127.0.0.1",
            "--conf", "spark.sql.execution.arrow.maxRecordsPerBatch=20", "--conf", "spark.log.level=WARN",
            "--conf", "spark.sql.files.openCostInBytes=134217728", "--conf", "spark.executor.maxNumFailures=20",
            str(ROOT / "include/spark/slipway_spark/__main__.py"),
            "--plan", str(tmp_path / "plan.json"), "--result", str(tmp_path / "result.json"),
        ]  # fmt: skip
        environment = {**os.environ, "PYSPARK_PYTHON": sys.executable, "SPARK_LOCAL_IP": "127.0.0.1"}
        return subprocess.Popen(
            command,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return start


def pack(folder: Path, target: Path) -> None:
    with tarfile.open(target, "w:gz", compresslevel=1, dereference=True) as archive:
        archive.add(folder, arcname=".", filter=lambda entry: None if "/tests" in entry.name else entry)


def working(cluster: Cluster, job: subprocess.Popen[str], staged: Path) -> None:
    """Wait until some tasks are over and some are not."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        assert job.poll() is None, job.communicate()[0][-3000:]
        if len(list(staged.rglob("part-*.parquet"))) >= 1 and cluster.executors():
            return
        time.sleep(0.1)
    os.killpg(job.pid, signal.SIGKILL)
    raise AssertionError(f"No task of the job began; it said: {job.communicate()[0][-3000:]}")


# The short way for plain parquet, and the general one, which an option that changes nothing asks for.
@pytest.mark.parametrize("options", [{}, {"mergeSchema": "false"}], ids=["short", "general"])
def test_killed_executors_and_a_killed_driver_lose_and_double_nothing(
    cluster: Cluster, job: Callable[..., subprocess.Popen[str]], tmp_path: Path, options: dict[str, str]
) -> None:
    out = tmp_path / "out"
    first = job("try-1", options=options)
    working(cluster, first, out)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    assert not list(out.glob("execution=*")), "a killed driver leaves nothing half-visible"
    assert not (tmp_path / "result.json").exists()

    second = job("try-2", options=options)
    working(cluster, second, out)
    os.kill(cluster.executors()[0], signal.SIGKILL)
    said, _ = second.communicate(timeout=240)
    assert second.returncode == 0, said[-3000:]
    result = json.loads((tmp_path / "result.json").read_text())
    assert result["counts"]["written"] == ROWS
    (published,) = out.glob("execution=*")
    assert sorted(pq.read_table(published)["twice"].to_pylist()) == [2.0 * n for n in range(ROWS)]
    assert [p.name for p in out.iterdir()] == [published.name], "nothing of the first try is left"
    assert result["application"].startswith("app-")
