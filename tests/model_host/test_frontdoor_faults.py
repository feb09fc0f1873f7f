"""The front door when servers die, clients leave, and deployments change under it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest

from slipway_model_host.frontdoor.server import Limits
from tests.model_host.backend import Backend
from tests.model_host.conftest import Door
from tests.model_host.hosts import until
from tests.model_host.wire import Client, once


@pytest.mark.parametrize("path", ["die-mid", "die-chunk"])
def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(door: Door, path: str) -> None:
    with Client(door.port) as client, pytest.raises(ConnectionError):
        client.ask(f"/endpoints/e/{path}")
    assert door.upstream.in_flight == 0


def test_a_broken_off_answer_does_not_look_whole_to_http_1_0(door: Door) -> None:
    with Client(door.port) as client:
        client.send(b"GET /endpoints/e/die-chunk HTTP/1.0\r\n\r\n")
        with pytest.raises(ConnectionResetError):
            _read_to_the_end(client.socket)


def _read_to_the_end(sock: socket.socket) -> None:
    while sock.recv(1000):
        pass


@pytest.mark.parametrize(
    ("path", "status"),
    [("die-before", 503), ("die-in-head", 502), ("garbage", 502), ("cl-and-te", 502), ("switching", 502)],
)
def test_a_server_that_does_not_answer_properly(door: Door, path: str, status: int) -> None:
    with Client(door.port) as client:
        answer = client.ask(f"/endpoints/e/{path}", "POST", body=b"x")
        assert answer.status == status, answer.body
        assert answer.json["message"]
        assert ("retry-after" in answer.headers) == (status == 503)
        assert client.ask("/endpoints/e/x").status == 200, "the client's connection lives on"
    assert door.upstream.in_flight == 0


def test_a_second_answer_never_reaches_anyone(door: Door) -> None:
    with Client(door.port) as client:
        for _ in range(5):
            assert client.ask("/endpoints/e/double").body == b"ok"
            assert client.ask("/endpoints/e/x").json["target"] == "/x"


def test_a_pooled_connection_that_has_died_costs_nobody_a_request(door: Door) -> None:
    with Client(door.port) as client:
        for number in range(100):
            # The server closes each connection right after its answer, without having said so.
            answer = client.ask(f"/endpoints/e/close-after?{number}", "POST", body=b"once")
            assert (answer.status, answer.json["length"]) == (200, 4)
    assert len(door.backend.seen) == 100


def test_a_full_backlog_is_waited_for(open_door: Callable[[Limits], Door]) -> None:
    door = open_door(Limits())
    path = str(door.folder / "busy.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        door.loop.call_soon_threadsafe(door.upstream.up, path, 32)
        clients = [Client(door.port).send(b"GET /endpoints/e/x HTTP/1.1\r\nHost: x\r\n\r\n") for _ in range(12)]
        time.sleep(0.2)
        threads = []
        for _ in clients:
            connection, _ = listener.accept()
            threads.append(threading.Thread(target=_answer_once, args=(connection,)))
            threads[-1].start()
        assert [client.read().status for client in clients] == [200] * len(clients)
        for client in clients:
            client.socket.close()
        for thread in threads:
            thread.join()


def _answer_once(connection: socket.socket) -> None:
    with connection:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


def test_a_large_body_never_meets_a_dead_connection(door: Door) -> None:
    body = bytes(200_000)
    with Client(door.port) as client:
        for _ in range(30):
            assert client.ask("/endpoints/e/close-after").status == 200
            assert client.ask("/endpoints/e/x", "POST", body=body).json["length"] == len(body)


def test_a_refusal_before_the_body_is_read_reaches_the_client(door: Door) -> None:
    with Client(door.port) as client:
        client.send(b"POST /endpoints/e/refuse-early HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        client.send(bytes(200_000))
        answer = client.read()
        assert (answer.status, answer.body) == (413, b"large")
        assert answer.headers["connection"] == "close"


def test_a_large_body_for_nobody_is_refused_without_being_read(door: Door) -> None:
    with Client(door.port) as client:
        client.send(b"POST /endpoints/none/x HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        client.send(bytes(200_000))
        assert client.read().status == 404
        assert client.closed()


def test_a_client_that_leaves_within_its_body_takes_its_request_along(door: Door) -> None:
    client = Client(door.port)
    client.send(b"POST /endpoints/e/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + bytes(300_000))
    until(lambda: door.upstream.in_flight == 1, 2)
    client.socket.close()
    until(lambda: door.upstream.in_flight == 0, 2)
    assert not door.backend.seen
    assert once(door.port, "/endpoints/e/x").status == 200


def test_a_client_that_leaves_within_a_small_body_never_gets_to_a_server(door: Door) -> None:
    client = Client(door.port)
    client.send(b"POST /endpoints/e/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
    client.socket.close()
    time.sleep(0.1)
    assert not door.backend.seen


def test_while_a_server_is_away_clients_hear_when_to_come_back(open_door: Callable[[Limits], Door]) -> None:
    door = open_door(Limits())
    path = str(door.folder / "v1.sock")
    with Client(door.port) as client:
        assert client.ask("/endpoints/e/x").status == 200
        door.loop.call_soon_threadsafe(door.upstream.down, 7.0)
        until(lambda: door.upstream.pool is None, 1)
        for _ in range(3):
            answer = client.ask("/endpoints/e/x", "POST", body=b"{}")
            assert answer.status == 503
            assert answer.json["error_code"] == "TEMPORARILY_UNAVAILABLE"
            assert 5 <= int(answer.headers["retry-after"]) <= 7
        door.loop.call_soon_threadsafe(door.upstream.up, path, 4)
        until(lambda: door.upstream.pool is not None, 1)
        assert client.ask("/endpoints/e/x").status == 200
        door.loop.call_soon_threadsafe(door.upstream.up, path + "-gone", 4)
        time.sleep(0.05)
        answer = client.ask("/endpoints/e/x")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert door.upstream.in_flight == 0


def test_a_switch_breaks_no_connection_and_loses_no_request(open_door: Callable[[Limits], Door]) -> None:
    door = open_door(Limits())
    second = door.call(door.add(Backend("v2")))
    route = door.door.routes[b"e"]
    first = route.live
    stop, answers, errors = threading.Event(), [], []

    def ask() -> None:
        try:
            with Client(door.port) as client:
                while not stop.is_set():
                    answer = client.ask("/endpoints/e/x", "POST", body=b"x" * 100)
                    assert answer.json["server"] == answer.headers["x-slipway-deployment"]
                    answers.append(answer.json["server"])
        except (AssertionError, OSError, KeyError) as error:
            errors.append(error)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for number in range(20):
        time.sleep(0.05)
        route.live = first if number % 2 else second
    stop.set()
    for thread in threads:
        thread.join()
    assert not errors
    assert set(answers) == {"v1", "v2"}
    candidate = once(door.port, "/endpoints/e/x", headers="X-Slipway-Deployment: v2\r\n")
    assert candidate.json["server"] == "v2"


def _trickle(client: Client) -> None:
    for _ in range(80):
        client.send(b"X: y\r\n")
        time.sleep(0.05)


def test_time_limits(open_door: Callable[[Limits], Door]) -> None:
    door = open_door(Limits(keep_alive_seconds=0.5, client_seconds=0.5, answer_seconds=1.0))
    with (
        Client(door.port) as slow, Client(door.port) as idle, Client(door.port) as partial, Client(door.port) as body,
        Client(door.port) as trickling,
    ):  # fmt: skip
        trickling.send(b"GET /endpoints/e/x HTTP/1.1\r\n")
        slow.send(b"GET /endpoints/e/sleep?s=5 HTTP/1.1\r\nHost: x\r\n\r\n")
        partial.send(b"GET /endpoints/e/x HTTP/1.1\r\nHo")
        body.send(b"POST /endpoints/e/x HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        with pytest.raises(ConnectionError):
            _trickle(trickling)
        assert slow.read().status == 504
        assert idle.closed()
        assert partial.closed()
        assert body.closed()
    assert door.upstream.in_flight == 0


def test_one_client_too_many_is_sent_away(open_door: Callable[[Limits], Door]) -> None:
    door = open_door(Limits(connections=2))
    with Client(door.port) as one, Client(door.port) as two:
        assert one.ask("/health").status == two.ask("/health").status == 200
        with Client(door.port) as three:
            assert three.read().status == 503
            assert three.closed()
        assert one.ask("/health").status == 200


def test_going_down_lets_requests_end(open_door: Callable[[Limits], Door]) -> None:
    door = open_door(Limits())
    with Client(door.port) as busy, Client(door.port) as idle:
        assert idle.ask("/health").status == 200
        busy.send(b"GET /endpoints/e/sleep?s=0.4 HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(0.1)
        started = time.monotonic()
        door.call(door.door.stop(5))
        assert 0.2 < time.monotonic() - started < 2
        assert busy.read().headers["connection"] == "close"
        assert idle.closed()
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", door.port), timeout=1)
