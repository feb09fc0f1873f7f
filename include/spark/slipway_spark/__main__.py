"""The job's command: `python -m slipway_spark --plan FILE --result FILE`, under spark-submit or for Spark Connect.

Exit status 0: the result file holds counts and outputs. 3: it holds one sentence, and whether trying again may help.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import Any

# spark-submit runs this file by its path, so the package's own folder is where imports must begin.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path[:] = [entry for entry in sys.path if Path(entry) != Path(__file__).resolve().parent]

from slipway_spark.errors import WrongInput, explain  # noqa: E402
from slipway_spark.job import run  # noqa: E402
from slipway_spark.plan import Plan  # noqa: E402
from slipway_spark.progress import Progress, announce, say  # noqa: E402
from slipway_spark.session import open_session  # noqa: E402


def main(arguments: list[str]) -> int:
    """Run the plan; see the module's text."""
    parser = argparse.ArgumentParser(prog="slipway_spark", description="Run the plan of a score workflow.")
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--result", type=Path, required=True)
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, _stop)
    plan = Plan.read(options.plan)
    try:
        with open_session(plan) as spark:
            known = announce(spark)
            with Progress(spark, plan.owner):
                result: dict[str, Any] = {"ok": True, **known, **run(spark, plan)}
    except Exception as error:  # noqa: BLE001  # every failure is told as one sentence
        reason = explain(error)
        say(f"The job failed: {reason}")
        result = {"ok": False, "message": str(reason), "retry": not isinstance(reason, WrongInput)}
    _write(options.result, result)
    return 0 if result["ok"] else 3


def _stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


def _write(path: Path, result: dict[str, Any]) -> None:
    """Whole or not at all: a killed driver must not leave half a result."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result))
    partial.replace(path)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
