"""The command `score`: predict for files, in constant memory, by the code that the server runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from slipway_scoring.bundle_pyfunc import BundleError
from slipway_scoring.model import ModelLoadError
from slipway_scoring.offline.job import Job, JobError

FAILED = 3


def main(arguments: list[str]) -> int:
    """`score --model DIR --input FILE|DIR --output DIR`: 0 when all rows are scored or rejected, 3 on failure."""
    parser = argparse.ArgumentParser(
        prog="slipway_scoring score",
        description="Score CSV, JSON Lines or Parquet files. Run it again after an interruption: it goes on.",
    )
    parser.add_argument("--model", required=True, help="model directory or MLflow URI")
    parser.add_argument(
        "--input", type=Path, required=True, help="a .csv, .jsonl or .parquet file, or a folder of them"
    )
    parser.add_argument("--output", type=Path, required=True, help="the folder for scored parts and rejects")
    parser.add_argument("--part-rows", type=int, default=50_000, help="rows in one output part (default: %(default)s)")
    parser.add_argument("--quiet", action="store_true", help="no progress on standard error")
    options = parser.parse_args(arguments)
    if options.part_rows < 1:
        parser.error("--part-rows must be at least 1")
    from slipway_scoring import loaders, serve

    try:
        directory = serve.find_model(options.model)
        serve.limit_threads(serve.available_cpus())
        job = Job(loaders.load(directory), options.input, options.output, options.part_rows)
        summary = job.run(show_progress=not options.quiet)
    except (JobError, ModelLoadError, BundleError, serve.ModelNotFoundError) as error:
        sys.stderr.write(f"{error}\n")
        return FAILED
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted: the same command goes on from here.\n")
        return 130
    sys.stdout.write(f"{summary}\n")
    return 0
