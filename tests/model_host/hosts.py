"""Real model hosts as processes, and real models for them."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil

REPO = Path(__file__).resolve().parents[2]
TOKEN = "a-token-of-twenty-four-letters"

_MLMODEL = """\
flavors:
  python_function:
    loader_module: bundle_pyfunc
    python_version: 3.11
    code: code
    data: data
model_uuid: {uuid}
"""

# Answers its version for each row; a column `do` tells it to misbehave.
_CODE = """\
import ctypes, os, pathlib, signal, time

class CustomPreprocessor:
    def load(self, artifacts: pathlib.Path) -> None:
        self.version = (artifacts / "version.txt").read_text()
        if self.version == "broken":
            raise RuntimeError("the weights are from another planet")
        if self.version == "endless":
            time.sleep(600)

    def predict(self, frame):
        do = str(frame["do"].iloc[0]) if "do" in frame else ""
        if do == "sleep":
            time.sleep(float(frame["s"].iloc[0]))
        if do == "hang":
            # Holds the interpreter's lock, as a broken extension module does.
            ctypes.PyDLL(None).sleep(600)
        return [self.version] * len(frame)
"""


@dataclass(frozen=True)
class Model:
    """A model directory on disk and the body that deploys it."""

    folder: Path
    spec: dict[str, Any]


def compile_lock(folder: Path) -> str:
    """The uv lock of the scoring server's own requirements, with the versions of this checkout."""
    header = "# python: 3.11\n# platform: linux-x86_64\n"
    uv = Path(sys.executable).with_name("uv")
    done = subprocess.run(
        [uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", "3.11",
         "-c", REPO / "requirements.txt", REPO / "include" / "scoring" / "requirements.txt"],
        check=True, capture_output=True, text=True, cwd=folder,
    )  # fmt: skip
    return header + done.stdout


@dataclass
class ModelMaker:
    """Makes models that answer their own version; all share one environment."""

    folder: Path
    lock: str

    @property
    def digest(self) -> str:
        """The lock's digest."""
        return hashlib.sha256(self.lock.encode()).hexdigest()

    def make(self, version: str, name: str = "echo") -> Model:
        """A model directory whose predictions are all `version` (`broken` and `endless` do not load)."""
        folder = self.folder / f"{name}-{version}"
        if not folder.exists():
            for path, text in {
                "MLmodel": _MLMODEL.format(uuid=hashlib.md5(version.encode()).hexdigest()),
                "data/artifacts/version.txt": version,
                "data/code/custom_preprocess.py": _CODE,
                "data/requirements.txt": "",
                "slipway/requirements.lock": self.lock,
                "slipway/manifest.json": json.dumps(
                    {"bundle_digest": None, "lock_digest": self.digest, "python": "3.11", "name": name,
                     "rows_independent": True, "batching": None, "signature": None, "golden": None}
                ),
            }.items():  # fmt: skip
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(text)
            (folder / "code").mkdir()
            loader = REPO / "include/scoring/slipway_scoring/bundle_pyfunc.py"
            (folder / "code" / "bundle_pyfunc.py").write_text(loader.read_text())
        spec = {
            "model": name, "version": version, "model_uri": f"models:/{name}/{version}",
            "artifact_uri": folder.as_uri(), "lock_digest": self.digest, "auth": "none", "workers": 1, "env": {},
        }  # fmt: skip
        return Model(folder, spec)


@dataclass
class HostProcess:
    """One `python -m slipway_model_host`."""

    home: Path
    environments: Path
    options: dict[str, Any] = field(default_factory=dict)
    environ: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=90))
    url: str = ""
    admin_url: str = ""

    def start(self) -> HostProcess:
        """Start it, on the ports it had before if it ran before."""
        options = {"port": _port(self.url), "admin_port": _port(self.admin_url)} | self.options
        flags = [text for name, value in options.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        # MLflow leaves its server's address in the environment of a test that used its client.
        foreign = ("MODEL_HOST_", "MLFLOW_TRACKING_")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(foreign)} | {
            "PYTHONPATH": str(REPO / "include" / "model_host"), "MODEL_HOST_ADMIN_TOKEN": TOKEN,
        } | self.environ  # fmt: skip
        self.home.mkdir(parents=True, exist_ok=True)
        with (self.home.parent / f"{self.home.name}.out").open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "slipway_model_host", "--home", self.home,
                 "--environments-dir", self.environments, *flags],
                env=environ, stdout=output, stderr=output,
            )  # fmt: skip
        until(self._announced, 20)
        return self

    def _announced(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the host ended"
        try:
            found = json.loads((self.home / "host.json").read_text())
        except FileNotFoundError:
            return False
        self.url, self.admin_url = found["url"], found["admin_url"]
        return bool(found["pid"] == self.process.pid)

    def stop(self) -> int:
        """SIGTERM, and wait."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL: the host has no chance to do anything."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def children(self) -> list[psutil.Process]:
        """Everything that runs below the host."""
        assert self.process is not None
        return list(psutil.Process(self.process.pid).children(recursive=True))

    def admin(
        self, method: str, path: str, json: Any = None, token: str | None = TOKEN, **extra: Any
    ) -> httpx.Response:
        """Call the admin API."""
        headers = {"Authorization": f"Bearer {token}"} if token is not None else {}
        return self.client.request(method, f"{self.admin_url}{path}", json=json, headers=headers, **extra)

    def put(self, endpoint: str, deployment: str, model: Model, /, **changes: Any) -> httpx.Response:
        """Ask for a deployment."""
        return self.admin("PUT", f"/v1/endpoints/{endpoint}/deployments/{deployment}", model.spec | changes)

    def wait(self, endpoint: str, deployment: str) -> dict[str, Any]:
        """The deployment when it has left its pending states."""
        answer = self.admin("GET", f"/v1/endpoints/{endpoint}/deployments/{deployment}?wait=60")
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def switch(self, endpoint: str, deployment: str) -> httpx.Response:
        """Make a deployment live."""
        return self.admin("POST", f"/v1/endpoints/{endpoint}/live", {"deployment": deployment})

    def deploy(self, endpoint: str, deployment: str, model: Model, /, **changes: Any) -> dict[str, Any]:
        """Put, wait, switch: what a deploy does."""
        answer = self.put(endpoint, deployment, model, **changes)
        assert answer.status_code in {200, 202}, answer.text
        found = self.wait(endpoint, deployment)
        assert found["state"] in {"ready", "live"}, found
        answer = self.switch(endpoint, deployment)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def deployment(self, endpoint: str, deployment: str) -> dict[str, Any]:
        """A deployment now."""
        return dict(self.admin("GET", f"/v1/endpoints/{endpoint}/deployments/{deployment}").json())

    def score(self, endpoint: str, headers: dict[str, str] | None = None, **columns: Any) -> httpx.Response:
        """Send one row to an endpoint."""
        row = columns or {"x": 1}
        body = {"dataframe_records": [row]}
        return self.client.post(f"{self.url}/endpoints/{endpoint}/invocations", json=body, headers=headers)


def _port(url: str) -> int:
    return int(url.rsplit(":", 1)[1]) if url else 0


def until(condition: Callable[[], bool], seconds: float) -> None:
    """Return once the condition holds."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to that in time"
        time.sleep(0.02)


def alive(pids: list[int]) -> list[int]:
    """Those of the processes that still run (a zombie does not)."""
    found = []
    for pid in pids:
        try:
            if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
                found.append(pid)
        except psutil.NoSuchProcess:
            continue
    return found
