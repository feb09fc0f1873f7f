"""Many SageMaker deploys that wait at once, in a real Airflow: the slots they hold, and what the one triggerer takes.

    python benchmarks/waits/run.py [--deploys N] [--watch SECONDS] [--json FILE]

A whole stack and the AWS sandbox are started in temporary folders. Endpoints stay `Creating` until every deploy waits,
and then fail ("no capacity"): so many scoring servers would not fit on the machine. One deploy alone goes the same way
before, and is what the others are compared with.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[2]
sys.path[:0] = [
    str(ROOT),
    *(str(ROOT / "include" / room) for room in ("stack", "model_host", "scoring")),
    *(str(ROOT / room) for room in ("plugins", "sandbox")),
]

from slipway_sandbox.aws.connect import connect  # noqa: E402
from slipway_sandbox.aws.server import Sandbox  # noqa: E402
from slipway_sandbox.aws.settings import Place  # noqa: E402
from slipway_stack.supervisor import Supervisor  # noqa: E402
from tests.sagemaker.account import IMAGE, Account  # noqa: E402
from tests.stack.running import RunningStack, running_stack  # noqa: E402
from tests.system.steps import constant_bundle, register  # noqa: E402

DAG = "deploy_sagemaker"
_HOUR = 3600.0


@dataclass
class Wave:
    """What some deploys that waited at once took.

    :ivar memory_mb: of the triggerer, while all wait; what it shares with other processes is divided among them.
    :ivar cpu: of the triggerer while all wait, as a share of one core.
    :ivar slots: most task slots that were taken while all waited.
    :ivar until_waiting: seconds from the first trigger until all waited.
    :ivar after: seconds from the end of the waits until all runs were over.
    """

    deploys: int
    memory_mb: float
    cpu: float
    slots: int
    until_waiting: float
    after: float


class Triggerer:
    """The stack's triggerer: the supervised process and its children."""

    def __init__(self, stack: RunningStack) -> None:
        self._process = psutil.Process(Supervisor(stack.stack).states()["airflow-triggerer"]["pid"])

    def memory(self) -> float:
        """Megabytes; shared pages are counted in part."""
        return sum(process.memory_full_info().pss for process in self._all()) / 1e6

    def cpu(self) -> float:
        """CPU seconds so far."""
        return sum(sum(process.cpu_times()[:2]) for process in self._all())

    def _all(self) -> list[psutil.Process]:
        return [self._process, *self._process.children(recursive=True)]


class Bench:
    """Deploys to one stack and one sandbox."""

    def __init__(self, stack: RunningStack, account: Account, watch: float) -> None:
        self._airflow = stack.airflow
        self._account = account
        self._watch = watch
        self.triggerer = Triggerer(stack)

    def wave(self, names: list[str]) -> Wave:
        """Deploy to endpoints of these names, let all wait for a while, then end their waits."""
        self._account.administer("settings", {"provision_seconds": _HOUR, "outcomes": {"*": {
            "outcome": "fail", "reason": "no capacity"}}})  # fmt: skip
        began = time.monotonic()
        conf = {"model": "many", "image": IMAGE}
        runs = [self._airflow.trigger(DAG, {**conf, "endpoint": name}, run_id=name) for name in names]
        self._until(lambda: self._pool()["deferred_slots"] == len(names), _HOUR)
        until_waiting = time.monotonic() - began
        cpu, slots, since = self.triggerer.cpu(), 0, time.monotonic()
        while time.monotonic() - since < self._watch:
            pool = self._pool()
            assert pool["deferred_slots"] == len(names), pool
            slots = max(slots, pool["occupied_slots"])
            time.sleep(1)
        share = (self.triggerer.cpu() - cpu) / (time.monotonic() - since)
        memory = self.triggerer.memory()
        self._account.administer("settings", {"provision_seconds": 0})
        began = time.monotonic()
        self._until(lambda: self._airflow.run(runs[-1]).state == "failed" and not self._unfinished(), _HOUR)
        after = time.monotonic() - began
        for run in runs:
            assert self._airflow.failure(run)[0] == "endpoint", run
        return Wave(len(names), memory, share, slots, until_waiting, after)

    def _pool(self) -> dict[str, int]:
        return dict(self._airflow.request("GET", "/pools/default_pool"))

    def _unfinished(self) -> int:
        query = {"state": ["queued", "running"], "limit": 1}
        return int(self._airflow.request("GET", f"/dags/{DAG}/dagRuns", params=query)["total_entries"])

    def _until(self, reached: Callable[[], bool], seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while not reached():
            if time.monotonic() > deadline:
                raise SystemExit(f"Not there after {seconds:.0f} s: {self._pool()}")
            time.sleep(1)


def main() -> None:
    """Measure and print; the promise is that waiting deploys take no slot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--deploys", type=int, default=200)
    parser.add_argument("--watch", type=float, default=30.0, help="seconds for which all wait")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        place = Place(home / "aws", home / "environments", containers=False)
        with Sandbox(place) as sandbox, running_stack() as stack:
            print(connect(sandbox), flush=True)
            register(stack, constant_bundle(home / "many.zip", "one"), "many")
            bench = Bench(stack, Account(sandbox.url), options.watch)
            idle = bench.triggerer.memory()
            alone = bench.wave(["alone"])
            print(alone, flush=True)
            crowd = bench.wave([f"many-{i}" for i in range(options.deploys)])
            print(crowd, flush=True)
    result = _report(idle, alone, crowd)
    if options.json:
        options.json.write_text(json.dumps(result, indent=2))
    sys.exit(0 if crowd.slots == 0 else 1)


def _report(idle: float, alone: Wave, crowd: Wave) -> dict[str, Any]:
    count = crowd.deploys
    rows = {
        "task slots held while all wait": f"{crowd.slots}",
        "triggerer's memory: none waits": f"{idle:.0f} MB",
        "triggerer's memory: 1 waits": f"{alone.memory_mb:.0f} MB",
        f"triggerer's memory: {count} wait": f"{crowd.memory_mb:.0f} MB, {crowd.memory_mb / alone.memory_mb:.2f} of 1",
        f"triggerer's CPU: {count} wait": f"{crowd.cpu:.1%} of a core",
        "time per deploy until it waits": f"{crowd.until_waiting / count:.2f} s, "
        f"{crowd.until_waiting / count / alone.until_waiting:.2f} of one alone ({alone.until_waiting:.1f} s)",
        "time per deploy after the wait": f"{crowd.after / count:.2f} s, "
        f"{crowd.after / count / alone.after:.2f} of one alone ({alone.after:.1f} s)",
    }
    for what, value in rows.items():
        print(f"{what:<34} {value}")
    return {"idle_memory_mb": idle, "alone": asdict(alone), "crowd": asdict(crowd)}


if __name__ == "__main__":
    main()
