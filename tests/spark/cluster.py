"""A real standalone cluster out of PySpark's own jars: a master and workers, each a process on this machine.

The work folders, ports and processes are the test's own; everything ends with the test.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from slipway_stack.ports import pick_free


@dataclass
class Cluster:
    """A running cluster."""

    home: Path
    url: str
    web: str
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def executors(self) -> list[int]:
        """The processes of executors whose work folder is this cluster's."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes()
                here = str((entry / "cwd").readlink())
            except OSError:
                continue
            if b"CoarseGrainedExecutorBackend" in words and here.startswith(str(self.home)):
                found.append(int(entry.name))
        return found


@contextmanager
def running_cluster(home: Path, workers: int = 2) -> Iterator[Cluster]:
    """Start a master and its workers, one core each."""
    port, web = pick_free(2)
    cluster = Cluster(home, f"spark://127.0.0.1:{port}", f"http://127.0.0.1:{web}")
    try:
        _start(cluster, "master.Master", "--host", "127.0.0.1", "--port", str(port), "--webui-port", str(web))
        for number in range(workers):
            folder = home / f"worker-{number}"
            folder.mkdir(parents=True)
            _start(
                cluster, "worker.Worker", "--host", "127.0.0.1", "--cores", "1", "--memory", "1g",
                "--work-dir", str(folder), "--webui-port", "0", cluster.url,
            )  # fmt: skip
        _await_workers(cluster, workers)
        yield cluster
    finally:
        for process in cluster.processes:
            os.killpg(process.pid, signal.SIGKILL)
        for pid in cluster.executors():
            os.kill(pid, signal.SIGKILL)


def _start(cluster: Cluster, name: str, *arguments: str) -> None:
    import pyspark

    cluster.home.mkdir(parents=True, exist_ok=True)
    home = Path(pyspark.__file__).parent
    environment = {
        "PATH": os.environ["PATH"],
        "SPARK_HOME": str(home),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_LOCAL_DIRS": str(cluster.home / "local"),
        "PYSPARK_PYTHON": sys.executable,
    }
    with (cluster.home / f"{len(cluster.processes)}.log").open("wb") as log:
        process = subprocess.Popen(
            [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *arguments],
            env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    cluster.processes.append(process)


def _await_workers(cluster: Cluster, workers: int) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{cluster.web}/json/", timeout=5) as answer:
                alive = re.search(rb'"aliveworkers"\s*:\s*(\d+)', answer.read())
            if alive and int(alive.group(1)) == workers:
                return
        except OSError:
            pass
        time.sleep(0.3)
    raise AssertionError(f"the cluster did not come up: see {cluster.home}")
