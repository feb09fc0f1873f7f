"""The promise of a redeploy: no request fails, and each is answered by the old version or the new."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import Counter

from tests.model_host.hosts import HostProcess, ModelMaker

REQUESTS = 10_000
CLIENTS = 8
# Leaves the starting servers some of a small machine.
PAUSE_SECONDS = 0.003


def test_ten_thousand_requests_during_v1_v2_v1(host: HostProcess, models: ModelMaker) -> None:
    host.deploy("e", "v1", models.make("1"))
    body = json.dumps({"dataframe_split": {"columns": ["x"], "data": [[1]]}}).encode()
    request = (
        b"POST /endpoints/e/invocations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    )
    answers: list[Counter[bytes]] = [Counter() for _ in range(CLIENTS)]
    failures: list[BaseException] = []
    enough = threading.Event()

    def ask(own: Counter[bytes]) -> None:
        try:
            # One connection for all: it must outlive every switch.
            with socket.create_connection(("127.0.0.1", int(host.url.rsplit(":", 1)[1])), timeout=30) as sock:
                while not enough.is_set():
                    sock.sendall(request)
                    own[_read(sock)] += 1
                    time.sleep(PAUSE_SECONDS)
        except (OSError, ValueError) as error:
            failures.append(error)

    threads = [threading.Thread(target=ask, args=(own,)) for own in answers]
    for thread in threads:
        thread.start()

    def answered() -> int:
        return sum(own.total() for own in answers)

    switches, share = 0, REQUESTS // 5
    try:
        while not failures and (switches < 4 or answered() < REQUESTS):
            switches += 1
            version = "2" if switches % 2 else "1"
            host.deploy("e", f"v{version}", models.make(version))
            goal = answered() + share
            while answered() < goal and not failures:
                time.sleep(0.05)
    finally:
        enough.set()
        for thread in threads:
            thread.join()
    total = sum(answers, Counter())
    print(f"{total.total()} requests over {switches} switches: {dict(total)}")
    assert not failures
    assert set(total) == {b'200 v1 {"predictions":["1"]}', b'200 v2 {"predictions":["2"]}'}
    assert total.total() >= REQUESTS


def _read(sock: socket.socket) -> bytes:
    """`status deployment body` of one answer with a Content-Length; quicker than a whole HTTP client."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(sock)
    head, _, body = data.partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    headers = dict(line.lower().split(b": ", 1) for line in lines[1:])
    while len(body) < int(headers[b"content-length"]):
        body += _receive(sock)
    return b"%b %b %b" % (lines[0].split()[1], headers.get(b"x-slipway-deployment", b"none"), body)


def _receive(sock: socket.socket) -> bytes:
    data = sock.recv(65536)
    if not data:
        raise ConnectionError("the front door closed the connection")
    return data
