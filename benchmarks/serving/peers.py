"""The servers under test: each is started, waited for, weighed and stopped in the same way."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import requests

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / ".slipway" / "benchmarks" / "serving"
HERE = Path(__file__).parent


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass(frozen=True, eq=False)
class Peer:
    """How to start one server; `{port}` in the command becomes its port."""

    name: str
    command: Sequence[str]
    ready: str = "/ping"
    path: str = "/invocations"
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Running:
    """A started server."""

    peer: Peer
    process: psutil.Process
    url: str
    port: int
    seconds_to_ready: float
    ready_bytes: int

    def cpu_seconds(self) -> dict[str, float]:
        """The CPU seconds of every thread of the whole process tree so far."""
        found: dict[str, float] = {}
        for process in (self.process, *self.process.children(recursive=True)):
            for thread in process.threads():
                found[f"{process.pid}/{thread.id}"] = thread.user_time + thread.system_time
        return found


@contextmanager
def running(peer: Peer, seconds: float = 180) -> Iterator[Running]:
    """Start a server on a free port of loopback, and stop it at the end."""
    port = free_port()
    log = (WORK / f"{peer.name}.log").open("wb")
    started = time.perf_counter()
    process = psutil.Popen(
        [part.replace("{port}", str(port)) for part in peer.command],
        env={**os.environ, **peer.env}, stdout=log, stderr=log, cwd=WORK, start_new_session=True,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        while True:
            if process.poll() is not None or time.perf_counter() - started > seconds:
                raise SystemExit(f"{peer.name} did not start: {WORK / f'{peer.name}.log'} says why.")
            with contextlib.suppress(requests.RequestException):
                if requests.get(url + peer.ready, timeout=2).status_code == 200:
                    break
            time.sleep(0.01)
        ready = time.perf_counter() - started
        tree = [process, *process.children(recursive=True)]
        # Proportional set size: pages that two processes of the tree share count once.
        resident = sum(each.memory_full_info().pss for each in tree)
        yield Running(peer, process, url, port, ready, resident)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except psutil.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def ours(name: str, model: Path, **env: str) -> Peer:
    """The scoring server, with one worker and its defaults."""
    command = [sys.executable, "-m", "slipway_scoring", "serve", "--model", str(model), "--port", "{port}"]
    return Peer(name, command, env={"PYTHONPATH": str(ROOT / "include" / "scoring"), **env})


def mlflow(name: str, model: Path) -> Peer:
    """`mlflow models serve`, with one worker."""
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", str(model), "-p", "{port}", "-w", "1",
               "--env-manager", "local"]  # fmt: skip
    # It starts uvicorn by a shell that looks for it on the path.
    return Peer(name, command, env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"})


def noop() -> Peer:
    """An app on the same HTTP server that reads the body and answers the same bytes, whatever was asked."""
    return Peer("noop", [sys.executable, str(HERE / "noop.py"), "{port}"])


def bentoml(model: Path) -> Peer:
    """BentoML with its adaptive batching on, in a virtual environment of its own that uv makes at the first run."""
    home = WORK / "bentoml"
    if not (home / "complete").is_file():
        uv = shutil.which("uv") or str(Path(sys.executable).parent / "uv")
        shutil.rmtree(home, ignore_errors=True)
        subprocess.run([uv, "venv", "-q", "--python", sys.executable, str(home)], check=True)
        import sklearn

        packages = ["bentoml", f"scikit-learn=={sklearn.__version__}", "numpy"]
        subprocess.run([uv, "pip", "install", "-q", "--python", f"{home}/bin/python", *packages], check=True)
        (home / "complete").touch()
    command = [f"{home}/bin/bentoml", "serve", str(HERE / "bento_service.py") + ":Linear", "--port", "{port}",
               "--host", "127.0.0.1"]  # fmt: skip
    env = {"BENTO_MODEL": str(model), "BENTOML_DO_NOT_TRACK": "true", "BENTOML_HOME": str(WORK / "bentohome")}
    env |= {"PYTHONPATH": str(HERE), "PATH": f"{home}/bin:{os.environ['PATH']}"}
    return Peer(
        "bentoml", [*command[:2], "bento_service:Linear", *command[3:]], ready="/readyz", path="/predict", env=env
    )
