"""What the list of models costs: `python -m benchmarks.page.run [--airflow]`.

The page's own code asks a real MLflow server (SQLite) that holds 1,000 models with ten versions each, and one with 100,
of which the first hundred are bundles in the store too. Prints the median of 50 pages for each, their ratio, and how
many calls of MLflow's a page took. Airflow's part (login, permissions, the runs) does not depend on the models;
`--airflow` counts it too: the whole page as a client gets it from a whole stack, with 1,000 models.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from benchmarks.page.seed import seed
from slipway.bundles.store import BundleStore
from slipway.web.page.airflow import Runs
from slipway.web.page.listing import Query, list_models
from slipway.web.page.models import PageMlflow
from slipway_stack import mlflow_server
from slipway_stack.ports import pick_free

ROUNDS = 50


class Counting(PageMlflow):
    """Counts its calls."""

    calls = 0

    def call(self, method: str, path: str, **options: Any) -> Any:
        """See `PageMlflow.call`."""
        self.calls += 1
        return super().call(method, path, **options)


@contextmanager
def server(home: Path, models: int) -> Iterator[str]:
    """Run an MLflow server that holds that many models; gives its address."""
    home.mkdir()
    [port] = pick_free(1)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, str(mlflow_server.__file__), "--host", "127.0.0.1", "--port", str(port)]
    with (home / "log").open("w") as log:
        process = subprocess.Popen([*command, "--home", str(home)], stdout=log, stderr=log, start_new_session=True)
    try:
        while True:
            try:
                if httpx.get(f"{url}/health").is_success:
                    break
            except httpx.TransportError:
                time.sleep(0.2)
        seed(home / "mlflow.db", models)
        yield url
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure(url: str, store: BundleStore, query: Query) -> tuple[float, int]:
    """Return the median of the seconds that a page takes, and its calls of MLflow's."""
    os.environ["AIRFLOW_CONN_MLFLOW_DEFAULT"] = json.dumps({"conn_type": "http", "host": url})
    mlflow = Counting()
    took = []
    for _ in range(ROUNDS + 5):
        mlflow.calls = 0
        began = time.perf_counter()
        list_models(mlflow, store, query, Runs(()))
        took.append(time.perf_counter() - began)
    return statistics.median(took[5:]), mlflow.calls


def through_airflow(queries: dict[str, Query]) -> None:
    """Print the median of the seconds that a whole page takes through Airflow's own API server."""
    from tests.stack.running import running_stack

    os.environ.pop("AIRFLOW_CONN_MLFLOW_DEFAULT", None)  # the stack is to use its own
    with running_stack() as stack:
        seed(stack.stack.mlflow / "mlflow.db", 1000)
        for title, query in queries.items():
            took = []
            for number in range(ROUNDS + 5):
                began = time.perf_counter()
                answer = stack.airflow.raw("GET", "/slipway/models", params=query.params())
                took.append(time.perf_counter() - began)
                if "model-" not in answer.text and number >= 5:  # a server's first answers may come late
                    raise RuntimeError(f"The page shows no model: {answer.status_code}.")
            median = statistics.median(took[5:])
            print(f"{title}, the whole page through Airflow: {median * 1000:.0f} ms of 1,000 models")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--airflow", action="store_true")
    options = parser.parse_args()
    queries = {
        "first page": Query(),
        "search": Query(text="99"),
        "deployed": Query(state="deployed"),
        "newest change first": Query(sort="-updated"),
    }
    with tempfile.TemporaryDirectory() as folder:
        store = BundleStore((Path(folder) / "bundles").as_uri())
        for number in range(100):
            store.record(f"model-{number:04d}", f"{number:064x}", "file:///x.zip", None)
        with server(Path(folder) / "many", 1000) as many, server(Path(folder) / "few", 100) as few:
            for title, query in queries.items():
                large, calls = measure(many, store, query)
                small, _ = measure(few, store, query)
                print(
                    f"{title}: {large * 1000:.0f} ms of 1,000 models, {small * 1000:.0f} ms of 100 "
                    f"(ratio {large / small:.2f}), {calls} calls of MLflow's"
                )
    if options.airflow:
        through_airflow(queries)


if __name__ == "__main__":
    main()
