"""Clients of an endpoint in the sandbox who never stop asking."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from slipway_sandbox.azure.server import Sandbox


@dataclass
class Load:
    """What clients were answered."""

    predictions: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)


@contextmanager
def constant_load(sandbox: Sandbox, endpoint: str, sample: dict[str, Any]) -> Iterator[Load]:
    """Ask the endpoint again and again from two clients, as long as the block takes."""
    load, over = Load(), threading.Event()
    found = sandbox.endpoints.known[endpoint]
    url, headers = found.properties["scoringUri"], {"Authorization": f"Bearer {found.keys['primaryKey']}"}
    trust = ssl.create_default_context(cafile=sandbox.certificates.bundle)

    def ask() -> None:
        with httpx.Client(headers=headers, verify=trust, timeout=60) as client:
            while not over.wait(0.05):
                answer = client.post(url, json={"dataframe_split": sample})
                if answer.is_success:
                    load.predictions[answer.json()["predictions"][0]] += 1
                else:
                    load.failures.append(f"{answer.status_code} {answer.text}")

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield load
    finally:
        over.set()
        for client in clients:
            client.join()
