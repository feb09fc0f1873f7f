"""The command `serve`: read the settings, find the model, bind the socket, supervise the workers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from slipway_scoring import sockets
from slipway_scoring.scoreboard import Scoreboard
from slipway_scoring.settings import Settings, SettingsError
from slipway_scoring.supervisor import LOAD_FAILED, Supervisor

_THREAD_VARIABLES = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "VECLIB_MAXIMUM_THREADS",
    "RAYON_NUM_THREADS", "POLARS_MAX_THREADS",
)  # fmt: skip


class ModelNotFoundError(Exception):
    """There is no model to serve; one sentence."""


def main(arguments: list[str]) -> int:
    """`serve`: run until SIGTERM. Exit status 2 for a wrong setting, 3 for a model that cannot be served."""
    try:
        settings = Settings.read(arguments)
        listener = sockets.listen(settings.host, settings.port, settings.uds)
    except (SettingsError, sockets.ListenError) as error:
        sys.stderr.write(f"{error}\n")
        return 2
    try:
        directory = find_model(settings.model)
    except ModelNotFoundError as error:
        sys.stderr.write(f"{error}\n")
        return LOAD_FAILED
    limit_threads(settings.threads or max(1, available_cpus() // settings.workers))
    board = Scoreboard(settings.workers)
    supervisor = Supervisor(
        partial(_work, directory=directory, settings=settings, listener=listener, board=board),
        listener,
        board,
        hang_limit=settings.hang_limit,
        drain_time=settings.drain_time,
    )
    return supervisor.run()


def _work(number: int, directory: Path, settings: Settings, listener: socket.socket, board: Scoreboard) -> int:
    from slipway_scoring import worker  # Only in the worker: the supervisor stays small.

    return worker.run(worker.Place(number, settings, listener, board), directory)


def find_model(place: str) -> Path:
    """The model directory that `place` means: itself, one folder below it, or a download of that MLflow URI.

    Raises:
        ModelNotFoundError: no `MLmodel` there, or the download failed.
    """
    directory = Path(place)
    if "://" in place or place.startswith(("models:/", "runs:/", "mlflow-artifacts:/")):
        directory = _download(place)
    if (directory / "MLmodel").is_file():
        return directory.resolve()
    below = sorted(path.parent for path in directory.glob("*/MLmodel")) if directory.is_dir() else []
    if len(below) == 1:
        return below[0].resolve()
    found = f"{len(below)} folders with an MLmodel file" if below else "no MLmodel file"
    raise ModelNotFoundError(
        f"{place} has {found}: give --model a directory that has one at its root or one folder below."
    )


def _download(uri: str) -> Path:
    target = tempfile.mkdtemp(prefix="slipway-model-")
    command = [sys.executable, "-m", "mlflow", "artifacts", "download", "-u", uri, "-d", target]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1][:300]
        raise ModelNotFoundError(
            f"{uri} cannot be downloaded ({reason}): install MLflow in the model's environment, and check the URI and "
            "$MLFLOW_TRACKING_URI."
        )
    return Path(target)


def limit_threads(count: int) -> None:
    """Tell BLAS, OpenMP and tree libraries to use `count` threads, unless the environment already says how many.

    Idle OpenMP threads sleep instead of spinning: spinning ones take the core that reads the next request.
    """
    for variable in _THREAD_VARIABLES:
        os.environ.setdefault(variable, str(count))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def available_cpus() -> int:
    """The CPUs that this process may use: its affinity, and the quota of its container (cgroup 2)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return allowed
    return allowed if quota == "max" else max(1, min(allowed, int(quota) // int(period)))
