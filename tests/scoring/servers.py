"""Run the real server as its users do: a process, a port, signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import requests

SCORING = Path(__file__).resolve().parents[2] / "include" / "scoring"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def environment(**more: str) -> dict[str, str]:
    """The environment of a command of the scoring package."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SLIPWAY_SCORING")}
    return {**kept, "PYTHONPATH": str(SCORING), **more}


def command(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m slipway_scoring …` to its end."""
    return subprocess.run(
        [sys.executable, "-m", "slipway_scoring", *arguments],
        env=environment(**more), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


class Server:
    """`with Server(directory, "--workers", "2") as server: server.post("/invocations", …)`."""

    def __init__(self, directory: Path, *arguments: str, tls: bool = False, ready: bool = True, **env: str) -> None:
        self.port = free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._arguments = ["--model", str(directory), "--port", str(self.port), *arguments]
        self._env = env
        self._wait = ready
        self.log_path = Path(tempfile.mkstemp(suffix=".log")[1])

    def __enter__(self) -> Server:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "slipway_scoring", "serve", *self._arguments],
            env=environment(**self._env), stderr=self.log_path.open("wb"),
        )  # fmt: skip
        if self._wait:
            self.wait_ready()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.log_path.unlink(missing_ok=True)

    def wait_ready(self, seconds: float = 60) -> None:
        """Until /ping says 200."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.log()
            with contextlib.suppress(requests.RequestException):
                if requests.get(self.url + "/ping", timeout=2, verify=False).status_code == 200:
                    return
            time.sleep(0.02)
        raise AssertionError(f"not ready: {self.log()}")

    def post(self, path: str, body: Any, **more: Any) -> requests.Response:
        """Send JSON."""
        return requests.post(self.url + path, json=body, timeout=30, **more)

    def get(self, path: str, **more: Any) -> requests.Response:
        """Get a path."""
        return requests.get(self.url + path, timeout=30, **more)

    def workers(self) -> list[psutil.Process]:
        """The worker processes."""
        return psutil.Process(self.process.pid).children()

    def stop(self, seconds: float = 30) -> int:
        """SIGTERM; the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def log(self) -> str:
        """All of standard error so far."""
        return self.log_path.read_text(errors="replace")

    def log_lines(self) -> list[dict[str, Any]]:
        """The JSON lines of standard error."""
        return [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
