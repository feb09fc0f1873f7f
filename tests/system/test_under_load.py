"""Redeploys under constant load, and processes killed at the worst time."""

from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil

from tests.stack.running import RunningStack
from tests.system.steps import SAMPLE, constant_bundle, deploy, register, score

REQUESTS = 10_000
BODY = json.dumps({"dataframe_split": SAMPLE})


class Load:
    """Clients that keep their connections and ask without a pause; every answer is counted."""

    def __init__(self, url: str, clients: int = 4) -> None:
        self._url = urlsplit(url)
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    @contextmanager
    def running(self) -> Iterator[Load]:
        for thread in self._threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    def _ask(self) -> None:
        connection = http.client.HTTPConnection(self._url.hostname or "", self._url.port, timeout=30)
        while not self._stop.is_set():
            try:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", f"{self._url.path}/invocations", BODY, headers)
                response = connection.getresponse()
                answer = response.read().decode()
                status = response.status
            except (OSError, http.client.HTTPException) as e:
                status, answer = 0, repr(e)
                connection.close()
            with self._lock:
                if status == 200:
                    self.answers[answer] += 1
                else:
                    self.failures.append(f"{status}: {answer}")


def test_no_request_fails_while_versions_are_switched(stack: RunningStack, tmp_path: Path) -> None:
    one = register(stack, constant_bundle(tmp_path / "one.zip", "one"), "switched")
    two = register(stack, constant_bundle(tmp_path / "two.zip", "two"), "switched")
    url = deploy(stack, "switched", version=one)["url"]
    with Load(url).running() as load:
        deadline = time.monotonic() + 240
        while sum(load.answers.values()) < REQUESTS and time.monotonic() < deadline:
            for version in (two, one):
                deploy(stack, "switched", version=version)
    assert load.failures == []
    assert sum(load.answers.values()) >= REQUESTS
    labels = {json.loads(answer)["predictions"][0] for answer in load.answers}
    assert labels == {"one", "two"}
    assert all(json.loads(answer)["predictions"][0] == json.loads(answer)["predictions"][1] for answer in load.answers)
    stack.succeed("undeploy_mlflow", {"model": "switched"})


def wait_for_score(url: str, expected: Any, seconds: float = 60) -> set[int]:
    """Ask until the endpoint answers as expected; return the statuses on the way."""
    seen: set[int] = set()
    deadline = time.monotonic() + seconds
    while True:
        try:
            response = httpx.post(f"{url}/invocations", content=BODY, headers={"Content-Type": "application/json"})
            seen.add(response.status_code)
            if response.is_success:
                assert response.json()["predictions"] == expected
                return seen
            assert response.headers.get("retry-after")
        except httpx.TransportError:
            seen.add(0)
        assert time.monotonic() < deadline, f"not back after {seconds} s"
        time.sleep(0.02)


def live_pid(stack: RunningStack, endpoint: str) -> int:
    admin = {"Authorization": f"Bearer {stack.keys.model_host_token}"}
    found = httpx.get(f"{stack.model_host_admin_url}/v1/endpoints/{endpoint}", headers=admin).json()
    return int(next(d for d in found["deployments"] if d["id"] == found["live"])["pid"])


def test_killed_servers_and_a_killed_host_come_back_by_themselves(stack: RunningStack, tmp_path: Path) -> None:
    version = register(stack, constant_bundle(tmp_path / "tough.zip", "tough"), "tough")
    url = deploy(stack, "tough", version=version)["url"]
    expected = ["tough", "tough"]

    before = live_pid(stack, "tough")
    os.kill(before, signal.SIGKILL)
    statuses = wait_for_score(url, expected)
    assert statuses <= {200, 503}, "while a server is away the host answers 503 with Retry-After"
    assert live_pid(stack, "tough") != before

    (host,) = [
        p for p in psutil.process_iter(["cmdline", "environ"])
        if "slipway_model_host" in (p.info["cmdline"] or []) and str(stack.stack.home) in str(p.info["environ"])
    ]  # fmt: skip
    children = host.children(recursive=True)
    host.kill()
    wait_for_score(url, expected)
    assert not [c for c in children if c.is_running() and c.status() != psutil.STATUS_ZOMBIE], "no orphan serves on"
    assert score(url) == expected
    stack.succeed("undeploy_mlflow", {"model": "tough"})
