"""Which ports are free, and who holds the others."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from slipway_stack.ports import LOOPBACK, holder, is_free, pick_free


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_a_port_that_somebody_listens_on_is_not_free_and_the_holder_is_named(taken: int) -> None:
    assert not is_free(taken)
    assert f"(pid {os.getpid()})" in (holder(taken) or "")


def test_picked_ports_are_free_and_different() -> None:
    ports = pick_free(5)
    assert len(set(ports)) == 5
    assert all(is_free(port) for port in ports)
    assert holder(ports[0]) is None


def test_a_port_on_which_a_connection_was_just_closed_is_free(taken: int) -> None:
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((LOOPBACK, 0))
        server.listen()
        port = server.getsockname()[1]
        with socket.create_connection((LOOPBACK, port)):
            accepted, _ = server.accept()
            accepted.close()  # this side closes first, so this side keeps the port in TIME_WAIT
    assert is_free(port)
