"""The production stack for tests: secrets of its own, free ports, two workers, ended with all its volumes."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from slipway_stack.airflow_api import AirflowClient
from slipway_stack.ports import pick_free

ROOT = Path(__file__).parents[2]
IMAGES = {
    "SLIPWAY_IMAGE": "slipway-test/production:bookworm",
    "POSTGRES_IMAGE": "slipway-test/postgres:bookworm",
    "REDIS_IMAGE": "slipway-test/redis:bookworm",
}
COMPOSE = ["docker-compose", "--file", str(ROOT / "docker-compose.yaml")]


def docker(*arguments: str, check: bool = True) -> str:
    """Run the engine's client; its standard output and error together."""
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=check)
    return done.stdout + done.stderr


@dataclass
class Production:
    """A production stack that is up."""

    environment: dict[str, str]
    secrets: Path
    airflow: AirflowClient
    front_door: str
    mlflow: str
    processes: set[str] = field(default_factory=set)  # every line of every process list that was seen

    def compose(self, *arguments: str) -> str:
        """Run docker-compose for this stack."""
        done = subprocess.run(
            [*COMPOSE, *arguments], capture_output=True, text=True, check=True, env=self.environment, cwd=ROOT
        )
        return done.stdout

    def container(self, service: str, number: int = 1) -> str:
        """One of a service's containers."""
        return self.compose("ps", "--quiet", service).split()[number - 1]

    def containers(self) -> list[dict[str, Any]]:
        """What the engine knows of each container."""
        return list(json.loads(docker("inspect", *self.compose("ps", "--quiet").split())))

    @contextmanager
    def browser(self) -> Iterator[httpx.Client]:
        """A client of the Models page with the administrator's login cookie, as a browser would have it."""
        url, login = self.environment["AIRFLOW_URL"], {"username": "admin"}
        login["password"] = (self.secrets / "airflow_admin_password").read_text()
        token = httpx.post(f"{url}/auth/token", json=login, timeout=60).raise_for_status().json()["access_token"]
        with httpx.Client(base_url=f"{url}/slipway", cookies={"_token": token}, timeout=60) as client:
            yield client

    def watch_processes(self, over: threading.Event) -> None:
        """Look at all process lists until it is over."""
        while not over.wait(0.5):
            chosen = f"label=com.docker.compose.project={self.environment['COMPOSE_PROJECT_NAME']}"
            for container in docker("ps", "--quiet", "--filter", chosen).split():
                listed = docker("top", container, "-eo", "pid,user,args", check=False).splitlines()[1:]
                self.processes.update(line.split(maxsplit=1)[-1] for line in listed)


def up(environment: dict[str, str], cwd: Path = ROOT, workers: str = "2") -> subprocess.CompletedProcess[str]:
    """What `make up` does."""
    command = [sys.executable, str(ROOT / "include/compose/up.py"), workers, *COMPOSE]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd=cwd)


@contextmanager
def production_stack(folder: Path) -> Iterator[Production]:
    """Start the stack with two workers, and end it."""
    subprocess.run([str(ROOT / ".ci/production-images")], check=True, capture_output=True)
    ports = pick_free(3)
    front_door = f"http://127.0.0.1:{ports[2]}"
    made = folder / "secrets"
    environment = {
        **os.environ, **IMAGES,
        "COMPOSE_PROJECT_NAME": f"slipwaytest{secrets.token_hex(3)}",
        "SLIPWAY_SECRETS": str(made), "SLIPWAY_INBOX": str(ROOT / "build" / "bundles"),
        "AIRFLOW_PORT": str(ports[0]), "MLFLOW_PORT": str(ports[1]), "MODEL_HOST_PORT": str(ports[2]),
        "MODEL_HOST_URL": front_door, "AIRFLOW_URL": f"http://127.0.0.1:{ports[0]}",
    }  # fmt: skip
    make = [sys.executable, str(ROOT / "include/compose/make_secrets.py"), str(made), str(folder / "env")]
    subprocess.run(make, check=True)
    try:
        started = up(environment)
        assert started.returncode == 0, f"{started.stdout}\n{started.stderr}\n{_told(environment)}"
        password = (made / "airflow_admin_password").read_text()
        with AirflowClient(environment["AIRFLOW_URL"], "admin", password) as airflow:
            yield Production(environment, made, airflow, front_door, f"http://127.0.0.1:{ports[1]}")
    finally:
        command = [*COMPOSE, "down", "--volumes", "--remove-orphans", "--timeout", "5"]
        subprocess.run(command, check=False, capture_output=True, env=environment, cwd=ROOT)


def _told(environment: dict[str, str]) -> str:
    command = [*COMPOSE, "logs", "--no-color", "--tail", "15"]
    return subprocess.run(command, check=False, capture_output=True, text=True, env=environment, cwd=ROOT).stdout
