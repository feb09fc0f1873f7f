"""Clients: Debian's `wrk` for many small requests, a bare socket for large ones, a paced crowd for overload."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import socket
import statistics
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from benchmarks.serving.peers import WORK, Running

_UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}


@dataclass(frozen=True)
class Rate:
    """What a load measured: requests per second that were answered well, and the 99th percentile in seconds."""

    per_second: float
    p99: float
    failures: int


def wrk(
    server: Running, body: bytes, *, connections: int, seconds: float, headers: dict[str, str] | None = None
) -> Rate:
    """Ask as fast as `connections` clients can, each waiting for its answer."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: the load comes from it, so run apt-get install wrk.")
    payload, script = WORK / "body", WORK / "post.lua"
    payload.write_bytes(body)
    lines = ['wrk.method = "POST"', f'local file = io.open("{payload}", "rb")', 'wrk.body = file:read("*a")']
    for name, value in (headers or {"Content-Type": "application/json"}).items():
        lines.append(f'wrk.headers["{name}"] = "{value}"')
    script.write_text("\n".join(lines))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--latency", "--timeout", "20s", "-s", str(script)]
    text = subprocess.run([*command, server.url + server.peer.path], capture_output=True, text=True, check=True).stdout
    found = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
    requests = re.search(r"(\d+) requests in", text)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    if not (found and requests and rate):
        raise SystemExit(f"wrk said something unexpected: {text}")
    bad = sum(map(int, re.findall(r"Non-2xx or 3xx responses: (\d+)", text)))
    bad += sum(map(int, re.findall(r"(?:connect|read|write|timeout) (\d+)", text)))
    good = 1 - bad / max(int(requests.group(1)), 1)
    return Rate(float(rate.group(1)) * good, float(found.group(1)) * _UNITS[found.group(2)], bad)


def large(server: Running, body: bytes, headers: dict[str, str], *, seconds: float) -> float:
    """Seconds that one large request takes, the median of as many as fit into `seconds`, on one connection."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {server.peer.path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{lines}content-length: {len(body)}\r\n\r\n".encode()
    times: list[float] = []
    with socket.create_connection(("127.0.0.1", server.port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stop = time.perf_counter() + seconds
        while time.perf_counter() < stop or len(times) < 3:
            started = time.perf_counter()
            client.sendall(head + body)
            _read_answer(client)
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _read_answer(client: socket.socket) -> None:
    received = bytearray()
    while b"\r\n\r\n" not in received:
        received += client.recv(1 << 20)
    head, _, rest = bytes(received).partition(b"\r\n\r\n")
    if b" 200 " not in head.split(b"\r\n")[0]:
        raise SystemExit(f"a large request was refused: {bytes(received)[:500]!r}")
    found = re.search(rb"content-length: (\d+)", head.lower())
    length = int(found.group(1)) if found else 0
    missing = length - len(rest)
    while missing > 0:
        missing -= len(client.recv(1 << 20))


@dataclass
class Crowd:
    """What a paced crowd saw: latencies of the answers with 200, and how many requests were refused or lost."""

    latencies: list[float]
    refused: int
    lost: int
    seconds: float

    @property
    def goodput(self) -> float:
        """Good answers per second."""
        return len(self.latencies) / self.seconds

    @property
    def p99(self) -> float:
        """The 99th percentile of the good ones."""
        return statistics.quantiles(self.latencies, n=100)[98]


def crowd(server: Running, body: Any, *, per_second: float, seconds: float, connections: int = 400) -> Crowd:
    """Send at a fixed pace, whether or not answers come: the load of the many who do not know of each other."""
    return asyncio.run(_crowd(server, json.dumps(body).encode(), per_second, seconds, connections))


async def _crowd(server: Running, body: bytes, per_second: float, seconds: float, connections: int) -> Crowd:
    head = f"POST {server.peer.path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    seen = Crowd([], 0, 0, seconds)
    idle: asyncio.LifoQueue[Any] = asyncio.LifoQueue()
    for _ in range(connections):
        idle.put_nowait(await asyncio.open_connection("127.0.0.1", server.port))

    async def one() -> None:
        reader, writer = await idle.get()
        started = time.perf_counter()
        try:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            found = re.search(rb"content-length: (\d+)", head.lower())
            await reader.readexactly(int(found.group(1)) if found else 0)
        except (OSError, asyncio.IncompleteReadError):
            seen.lost += 1
            return
        if b" 200 " in head[:20]:
            seen.latencies.append(time.perf_counter() - started)
        else:
            seen.refused += 1
        idle.put_nowait((reader, writer))

    tasks: set[asyncio.Task[None]] = set()
    started = time.perf_counter()
    sent = 0
    while (elapsed := time.perf_counter() - started) < seconds:
        while sent < elapsed * per_second:
            task = asyncio.ensure_future(one())
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            sent += 1
        await asyncio.sleep(0.001)
    await asyncio.gather(*tasks)
    while not idle.empty():
        idle.get_nowait()[1].close()
    return seen
