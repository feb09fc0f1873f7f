"""Seconds from trigger to success of each action, against a no-op DAG with as many tasks in the same run.

    python benchmarks/lifecycle/run.py [--rounds N] [--json FILE]

A whole stack is started in a temporary home. The environment is warm, as it is from the second model of the same
requirements on. A deploy may cost twice the no-op DAG plus the scoring server's own start, which is measured alone.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), *(str(ROOT / "include" / room) for room in ("stack", "model_host")), str(ROOT / "plugins")]

from slipway_stack.ports import pick_free  # noqa: E402
from tests.stack.running import RunningStack, running_stack  # noqa: E402
from tests.system.steps import constant_bundle  # noqa: E402

BUNDLES = json.dumps(
    [
        {
            "name": name,
            "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
            "kwargs": {"path": str(path), "refresh_interval": 5},
        }
        for name, path in (("actions", ROOT / "dags"), ("noop", Path(__file__).parent / "dags"))
    ]
)


def timed(stack: RunningStack, dag: str, conf: dict[str, Any]) -> tuple[float, int]:
    """Run a DAG; return the seconds from trigger to success, as Airflow's own clock has them, and its tasks."""
    run = stack.succeed(dag, conf)
    found = stack.airflow.request("GET", run.path)
    return seconds_between(found["queued_at"], found["end_date"]), len(stack.airflow.tasks(run))


def seconds_between(start: str, end: str) -> float:
    """Seconds between two times of Airflow's API."""
    from datetime import datetime

    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def server_start(stack: RunningStack, environment: str) -> float:
    """Start a scoring server as the model host does, and return the seconds until it is ready."""
    model = next(p.parent for p in (stack.stack.model_host / "models").rglob("MLmodel"))
    (port,) = pick_free(1)
    python = stack.stack.environments / environment / "bin" / "python"
    command = [str(python), "-m", "slipway_scoring", "serve", "--model", str(model), "--port", str(port)]
    values = {"PYTHONPATH": str(ROOT / "include" / "scoring"), "PATH": os.environ["PATH"]}
    started = time.perf_counter()
    server = subprocess.Popen(command, env=values, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                if httpx.get(f"http://127.0.0.1:{port}/ping").is_success:
                    return time.perf_counter() - started
            except httpx.TransportError:
                time.sleep(0.02)
            if time.perf_counter() - started > 60:
                raise SystemExit("The scoring server does not start: run the command by hand.")
    finally:
        server.terminate()
        server.wait()


def median(measure: Callable[[], float], rounds: int) -> float:
    """Return the median of some rounds."""
    return statistics.median(measure() for _ in range(rounds))


def main() -> None:
    """Measure, print a table of ratios, and say whether the promise about deploys holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    variables = {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": BUNDLES}
    with running_stack(variables) as stack, tempfile.TemporaryDirectory() as folder:
        number = 0

        def bundle() -> str:
            nonlocal number
            number += 1
            return constant_bundle(Path(folder) / f"b{number}.zip", f"answer {number}")

        # Warm up: the environment, the parsed DAGs, the first task of each process.
        stack.succeed("import_bundle", {"bundle_uri": bundle(), "name": "bench"})
        stack.succeed("register_model", {"name": "bench"})
        deployed = stack.xcom(stack.succeed("deploy_mlflow", {"model": "bench"}), "publish")
        start = median(lambda: server_start(stack, deployed["environment"]), options.rounds)

        seconds: dict[str, list[float]] = {}
        tasks: dict[str, int] = {}
        for _ in range(options.rounds):
            for dag, conf in (
                ("import_bundle", {"bundle_uri": bundle(), "name": "bench"}),
                ("register_model", {"name": "bench"}),
                ("deploy_mlflow", {"model": "bench"}),
                ("undeploy_mlflow", {"model": "bench"}),
            ):
                taken, tasks[dag] = timed(stack, dag, conf)
                seconds.setdefault(dag, []).append(taken)
                noop, _ = timed(stack, f"noop_{tasks[dag]}", {})
                seconds.setdefault(f"noop for {dag}", []).append(noop)

        print(f"{'action':<16} {'tasks':>5} {'median s':>9} {'no-op s':>8} {'ratio':>6}")
        result: dict[str, Any] = {"server_start_seconds": start}
        for dag, count in tasks.items():
            taken, noop = statistics.median(seconds[dag]), statistics.median(seconds[f"noop for {dag}"])
            result[dag] = {"tasks": count, "seconds": taken, "noop_seconds": noop, "ratio": taken / noop}
            print(f"{dag:<16} {count:>5} {taken:>9.2f} {noop:>8.2f} {taken / noop:>6.2f}")
        deploy = result["deploy_mlflow"]
        allowed = 2 * deploy["noop_seconds"] + start
        holds = deploy["seconds"] <= allowed
        print(
            f"deploy_mlflow / (2 × no-op + server start of {start:.2f} s) = {deploy['seconds'] / allowed:.2f}: "
            f"{'holds' if holds else 'MISSED'} (at most 1)"
        )
        if options.json:
            options.json.write_text(json.dumps(result, indent=2))
        sys.exit(0 if holds else 1)


if __name__ == "__main__":
    main()
