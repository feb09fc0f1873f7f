"""A Spark Connect server out of PySpark's own jars: the warm session that a Spark connection may name."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyspark

from slipway_stack.ports import pick_free

ROOT = Path(__file__).parents[2]


@contextmanager
def connect_server() -> Iterator[dict[str, Any]]:
    """A Spark Connect server on this machine, and its connection."""
    home = Path(pyspark.__file__).parent
    (port,) = pick_free(1)
    command = [str(home / "bin" / "spark-submit"), "--master", "local[*]", "--driver-memory", "2g"]
    command += ["--class", "org.apache.spark.sql.connect.service.SparkConnectServer"]
    command += ["--conf", f"spark.connect.grpc.binding.port={port}", "--conf", "spark.log.level=WARN"]
    command += ["--conf", "spark.connect.grpc.binding.address=127.0.0.1", "--conf", "spark.driver.host=127.0.0.1"]
    command += ["spark-internal"]
    environment = {
        **os.environ,
        "PYSPARK_PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT / "include" / "spark"),
        "SPARK_LOCAL_IP": "127.0.0.1",
    }
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        _await_port(port)
        yield {"conn_type": "spark_connect", "host": "127.0.0.1", "port": port}
    finally:
        server.terminate()
        server.wait()


def _await_port(port: int) -> None:

    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    raise SystemExit("The Spark Connect server does not start.")
