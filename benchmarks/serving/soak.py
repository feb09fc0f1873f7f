"""Ask one server for a long time and watch its memory: `python -m benchmarks.serving.soak --minutes 10`."""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks.serving.peers import WORK, ours, running

GOOD = {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2}
WARM_UP = 0.4
"""The share of the time after which memory is expected to stay."""


@dataclass(frozen=True)
class Report:
    """What the soak saw; memory in MB, of the server's whole process tree."""

    requests: int
    failures: int
    first_mb: float
    last_mb: float

    @property
    def growth_mb(self) -> float:
        """How much memory grew after the warm-up."""
        return self.last_mb - self.first_mb


def soak(model: Path, minutes: float, *, clients: int = 4) -> Report:
    """Send good and bad requests of several formats from `clients` connections for `minutes`."""
    from tests.scoring.load import Wire, message

    WORK.mkdir(parents=True, exist_ok=True)
    with running(ours("soak", model)) as server:
        stop = time.monotonic() + minutes * 60
        counts = [0, 0]

        def client() -> None:
            wire = Wire(server.port)
            requests = [
                (message("/invocations", {"dataframe_records": [GOOD] * 3}, server.port), 200),
                (message("/invocations", {"inputs": [[1, 2, 3, 4]] * 20}, server.port), 200),
                (message("/invocations", {"inputs": [[1, 2, 3]]}, server.port), 400),
                (message("/invocations", {"nothing": 1}, server.port), 400),
                (message("/nowhere", {}, server.port), 404),
            ]
            number = 0
            while time.monotonic() < stop:
                request, expected = requests[number % len(requests)]
                number += 1
                counts[0] += 1
                counts[1] += wire.ask(request)[0] != expected
            wire.close()

        threads = [threading.Thread(target=client) for _ in range(clients)]
        for thread in threads:
            thread.start()
        time.sleep(minutes * 60 * WARM_UP)
        first = _resident_mb(server.process)
        for thread in threads:
            thread.join()
        return Report(counts[0], counts[1], first, _resident_mb(server.process))


def _resident_mb(process: psutil.Process) -> float:
    tree = [process, *process.children(recursive=True)]
    return float(sum(each.memory_full_info().uss for each in tree)) / 2**20


def main() -> int:
    """Print the report; 1 if a request failed or memory grew by more than a tenth."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    options = parser.parse_args()
    from tests.scoring.models import iris_model

    directory = WORK / "soak-model"
    if not directory.is_dir():
        iris_model(directory)
    report = soak(directory, options.minutes)
    print(json.dumps({**vars(report), "growth_mb": report.growth_mb}))
    return int(report.failures > 0 or report.growth_mb > report.first_mb / 10)


if __name__ == "__main__":
    sys.exit(main())
