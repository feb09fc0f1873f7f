"""The front door as an HTTP/1.1 proxy: what RFC 9110 and RFC 9112 ask of a well-behaved one."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import struct
import threading
import time

import psutil
import pytest

from tests.model_host.conftest import Door
from tests.model_host.wire import Client, once


def test_an_endpoints_path_is_rewritten_and_the_query_kept(door: Door) -> None:
    for target, seen in {
        "/endpoints/e/invocations": "/invocations",
        "/endpoints/e/a/b?x=1&y=%2F": "/a/b?x=1&y=%2F",
        "/endpoints/e": "/",
        "/endpoints/e/": "/",
        "/endpoints/e?q": "/?q",
        "/endpoints/e/../../x": "/../../x",
        "http://elsewhere/endpoints/e/z": "/z",
    }.items():
        assert once(door.port, target).json["target"] == seen


def test_headers_are_passed_on_but_for_those_of_one_hop(door: Door) -> None:
    answer = once(
        door.port,
        "/endpoints/e/x",
        headers="Connection: keep-alive, X-Secret\r\nX-Secret: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nX-Kept: ä\r\n"
        "Proxy-Connection: x\r\nAuthorization: Bearer t\r\nX-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: gopher\r\n",
    )
    seen = door.backend.seen[-1]
    assert [seen.header(n) for n in ("x-secret", "te", "keep-alive", "proxy-connection", "connection")] == [None] * 5
    assert (seen.header("x-kept"), seen.header("authorization"), seen.header("host")) == ("ä", "Bearer t", "test")
    assert seen.header("x-forwarded-for") == "10.0.0.1, 127.0.0.1"
    assert seen.header("x-forwarded-proto") == "http"
    assert seen.header("x-forwarded-host") == "test"
    assert seen.header("x-forwarded-prefix") == "/endpoints/e"
    assert answer.headers["x-slipway-deployment"] == "v1"


def test_an_answers_headers_of_one_hop_stay_there(door: Door) -> None:
    headers = once(door.port, "/endpoints/e/hop").headers
    assert headers["x-end"] == "2"
    assert not {"x-hop", "keep-alive", "proxy-connection", "connection"} & headers.keys()


def test_connections_are_kept_alive_on_both_sides(door: Door) -> None:
    before = door.backend.connections
    with Client(door.port) as client:
        for number in range(50):
            assert client.ask("/endpoints/e/x", "POST", body=b"%d" % number).json["length"] == len(str(number))
    assert door.backend.connections - before <= 1


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 1_000_000])
@pytest.mark.parametrize("path", ["x", "chunked"])
def test_bodies_arrive_whole_by_length(door: Door, size: int, path: str) -> None:
    body = os.urandom(size)
    answer = once(door.port, f"/endpoints/e/{path}", "POST", body=body)
    assert answer.json["digest"] == hashlib.sha256(body).hexdigest()
    assert answer.headers.get("transfer-encoding") == ("chunked" if path == "chunked" else None)


@pytest.mark.parametrize("size", [0, 1, 65_537, 500_000])
def test_bodies_arrive_whole_in_chunks(door: Door, size: int) -> None:
    body = os.urandom(size)
    with Client(door.port) as client:
        client.send(b"POST /endpoints/e/chunked HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, size, 9_999):
            piece = body[start : start + 9_999]
            client.send(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece))
        answer = client.send(b"0\r\nX-Trailer: dropped\r\n\r\n").read()
        assert answer.json["digest"] == hashlib.sha256(body).hexdigest()
        assert door.backend.seen[-1].header("x-trailer") is None
        assert client.ask("/endpoints/e/x").status == 200


def test_a_message_may_come_byte_by_byte(door: Door) -> None:
    with Client(door.port) as client:
        for byte in b"POST /endpoints/e/x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc":
            client.send(bytes([byte]))
            time.sleep(0.001)
        assert client.read().json["length"] == 3


def test_pipelined_requests_are_answered_in_order(door: Door) -> None:
    count = 300
    with Client(door.port) as client:
        requests = [
            b"POST /endpoints/%b/%b?n=%d HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            % (b"none" if n % 7 == 0 else b"e", b"sleep" if n == 0 else b"x", n, n % 50, bytes(n % 50))
            for n in range(1, count)
        ]
        client.send(b"GET /endpoints/e/sleep?s=0.1 HTTP/1.1\r\nHost: x\r\n\r\n" + b"".join(requests))
        assert client.read().status == 200
        for n in range(1, count):
            answer = client.read()
            if n % 7 == 0:
                assert answer.status == 404
            else:
                assert (answer.json["target"], answer.json["length"]) == (f"/x?n={n}", n % 50)


def test_head_has_no_body_and_leaves_the_connection_in_step(door: Door) -> None:
    with Client(door.port) as client:
        for _ in range(3):
            answer = client.ask("/endpoints/e/x", "HEAD")
            assert int(answer.headers["content-length"]) > 0
            assert answer.body == b""
            assert client.ask("/endpoints/e/x").json["method"] == "GET"
        missing = client.ask("/endpoints/none/x", "HEAD")
        assert (missing.status, missing.body) == (404, b"")
        assert client.ask("/endpoints/e/no-content").status == 204
        assert client.ask("/endpoints/e/x").status == 200


def test_a_client_that_waits_for_100_continue_gets_it(door: Door) -> None:
    head = b"POST /endpoints/%b/x HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n"
    with Client(door.port) as client:
        client.send(head % b"e")
        assert client.socket.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        answer = client.send(b"body").read()
        assert answer.json["length"] == 4
        assert door.backend.seen[-1].header("expect") is None
    with Client(door.port) as client:
        assert client.send(head % b"none").read().status == 404
        assert client.closed(), "the body may or may not follow: the connection cannot go on"


def test_interim_answers_and_trailers_are_not_passed_on(door: Door) -> None:
    with Client(door.port) as client:
        assert client.ask("/endpoints/e/interim").body == b"ok"
        assert client.ask("/endpoints/e/trailers").body == b"ok"
        assert client.ask("/endpoints/e/x").status == 200


def test_an_answer_that_ends_with_its_connection_gets_an_end_of_its_own(door: Door) -> None:
    with Client(door.port) as client:
        assert client.ask("/endpoints/e/eof").body == b"until the end"
        assert client.ask("/endpoints/e/x").status == 200


def test_http_1_0_clients(door: Door) -> None:
    with Client(door.port) as client:
        answer = client.send(b"GET /endpoints/e/chunked HTTP/1.0\r\n\r\n").read()
        assert "transfer-encoding" not in answer.headers
        assert json.loads(answer.body)["method"] == "GET"
        assert client.closed()
    with Client(door.port) as client:
        client.send(b"GET /endpoints/e/x HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert client.read().headers["connection"] == "keep-alive"
        assert client.ask("/endpoints/e/x").status == 200


def test_connection_close_is_honoured(door: Door) -> None:
    with Client(door.port) as client:
        answer = client.ask("/endpoints/e/x", headers="Connection: close\r\n")
        assert answer.headers["connection"] == "close"
        assert client.closed()


def test_a_client_may_stop_talking_and_still_listen(door: Door) -> None:
    with Client(door.port) as client:
        client.send(b"GET /endpoints/e/sleep?s=0.2 HTTP/1.1\r\nHost: x\r\n\r\n")
        client.socket.shutdown(1)
        assert client.read().status == 200
        assert client.closed()


def test_an_offer_to_upgrade_is_not_taken_up(door: Door) -> None:
    upgrade = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMA\r\n"
    assert once(door.port, "/endpoints/e/x", headers=upgrade).status == 200
    assert once(door.port, "/endpoints/e/x", "POST", upgrade, b"body").status == 501


def test_what_is_not_there_is_named(door: Door) -> None:
    missing = once(door.port, "/endpoints/other/invocations", "POST", body=b"{}")
    assert missing.status == 404
    assert missing.json["error_code"] == "RESOURCE_DOES_NOT_EXIST"
    assert "'other'" in missing.json["message"]
    assert once(door.port, "/invocations").status == 404
    assert once(door.port, "/endpoints/").status == 404
    assert once(door.port, "/endpoints/e/x", headers="X-Slipway-Deployment: v9\r\n").status == 404
    assert once(door.port, "/health").json == {"status": "ok"}


def test_large_bodies_pass_in_constant_memory(door: Door) -> None:
    size, process = 150 * 1024**2, psutil.Process()
    peak = before = process.memory_info().rss

    def measure() -> None:
        nonlocal peak
        while not stop.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    stop = threading.Event()
    watcher = threading.Thread(target=measure)
    watcher.start()
    try:
        with Client(door.port, 60) as client:
            client.send(b"POST /endpoints/e/slow-reader HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % size)
            block = bytes(1024**2)
            for _ in range(size // len(block)):
                client.send(block)
            assert client.read().json["length"] == size
        for extra in ("", "&chunked=1"):
            with Client(door.port, 60) as client:
                client.send(f"GET /endpoints/e/large?n={size}{extra} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
                time.sleep(0.5)  # a client that does not read yet must not make the front door hoard
                got = 0
                while got < size:
                    got += len(client.socket.recv(1024**2))
    finally:
        stop.set()
        watcher.join()
    assert peak - before < 40 * 1024**2


def test_in_flight_is_counted_exactly(door: Door) -> None:
    clients = [Client(door.port) for _ in range(20)]
    for client in clients:
        client.send(b"GET /endpoints/e/sleep?s=0.5 HTTP/1.1\r\nHost: x\r\n\r\n")
    time.sleep(0.2)
    assert door.upstream.in_flight == 20
    # A reset connection ends its request; a closed one may still listen.
    clients[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    clients[0].socket.close()
    time.sleep(0.1)
    assert door.upstream.in_flight == 19
    for client in clients[1:]:
        assert client.read().status == 200
        client.socket.close()
    time.sleep(0.2)
    assert door.upstream.in_flight == 0


def test_more_requests_than_connections_queue(door: Door) -> None:
    before = door.backend.connections
    clients = [Client(door.port) for _ in range(80)]
    for client in clients:
        client.send(b"GET /endpoints/e/sleep?s=0.1 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert {client.read().status for client in clients} == {200}
    assert len(door.backend.writers) <= 32
    assert door.backend.connections - before <= 32
    for client in clients:
        client.socket.close()
