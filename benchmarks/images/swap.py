"""What requests see of a swap: two versions stand behind one door, which changes over and over under load."""

from __future__ import annotations

import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx

from slipway.containers.spec import ServerSpec
from slipway.hooks.docker import DockerEndpointHook

CLIENTS = 4
PAUSE_SECONDS = 2.0
"""Between two swaps."""


@dataclass(frozen=True)
class Swaps:
    """What was found.

    :param slowest: the longest that a request took that was under way during a swap, as a share of the seconds that a
        server takes to come up: for so long, a swap that stops the one before it starts the other has nobody to answer.
    """

    requests: int
    failed: int
    slowest: float


@dataclass(frozen=True)
class _Request:
    began: float
    ended: float
    good: bool


def measure(model: str, images: list[str], body: Any, swaps: int) -> Swaps:
    """Deploy two images beside each other, and let the door change between them while `body` is scored."""
    hook, endpoint = DockerEndpointHook(), f"benchmark-{secrets.token_hex(4)}"
    deployments = [f"v{number}-00000000" for number in range(len(images))]
    try:
        for number, image in enumerate(images):
            began = time.perf_counter()
            hook.put_deployment(ServerSpec(endpoint, deployments[number], model, str(number), image), None)
            _wait_until_ready(hook, endpoint, deployments[number])
        start = time.perf_counter() - began  # the last one's, whose door is up
        hook.set_live(endpoint, deployments[0])
        requests, spans = _swap_under_load(hook, endpoint, deployments, body, swaps)
    finally:
        hook.delete_endpoint(endpoint)
    slowest = max(_slowest(requests, began, ended) for began, ended in spans)
    return Swaps(len(requests), sum(not request.good for request in requests), slowest / start)


def _swap_under_load(
    hook: DockerEndpointHook, endpoint: str, deployments: list[str], body: Any, swaps: int
) -> tuple[list[_Request], list[tuple[float, float]]]:
    over = threading.Event()
    url = f"{hook.url(endpoint)}/invocations"

    def ask(_: int) -> list[_Request]:
        own = []
        # One connection for all requests: a swap must not close it.
        with httpx.Client(timeout=60) as client:
            while not over.wait(0.002):
                began = time.perf_counter()
                try:
                    good = client.post(url, json=body).is_success
                except httpx.TransportError:
                    good = False
                own.append(_Request(began, time.perf_counter(), good))
        return own

    spans = []
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask, number) for number in range(CLIENTS)]
        try:
            for number in range(swaps):
                time.sleep(PAUSE_SECONDS)
                began = time.perf_counter()
                hook.set_live(endpoint, deployments[(number + 1) % len(deployments)])
                spans.append((began, time.perf_counter()))
        finally:
            over.set()
        return [request for client in clients for request in client.result()], spans


def _slowest(requests: list[_Request], since: float, until: float) -> float:
    """The longest of the requests that were under way at some time of a span."""
    return max(request.ended - request.began for request in requests if request.began < until and request.ended > since)


def _wait_until_ready(hook: DockerEndpointHook, endpoint: str, deployment: str) -> None:
    while hook.deployment_state(endpoint, deployment) != "ready":
        time.sleep(0.2)
