"""Heads that two parsers may read in two ways: the front door refuses them, or both sides read them as one."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model_host.conftest import Door
from tests.model_host.wire import Client

START = b"POST /endpoints/e/x HTTP/1.1\r\nHost: x\r\n"
SMUGGLED = b"GET /endpoints/e/smuggled HTTP/1.1\r\nHost: x\r\n\r\n"

REFUSED = {
    "length and chunked": START + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": START + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two lengths": START + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    "the same length twice": START + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": START + b"Content-Length: 5, 5\r\n\r\nabcde",
    "a signed length": START + b"Content-Length: +5\r\n\r\nabcde",
    "a negative length": START + b"Content-Length: -5\r\n\r\nabcde",
    "a length in hex": START + b"Content-Length: 0x5\r\n\r\nabcde",
    "an empty length": START + b"Content-Length: \r\n\r\n",
    "an endless length": START + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "another coding": START + b"Transfer-Encoding: gzip\r\n\r\n",
    "two codings": START + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": START + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in two lines": START + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a coding in disguise": START + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked with a tab": START + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    "identity": START + b"Transfer-Encoding: identity\r\nContent-Length: 5\r\n\r\nabcde",
    "a space before the colon": START + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "a folded line": START + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a bare LF": START + b"X: a\nContent-Length: 5\r\n\r\nabcde",
    "a bare CR": START + b"X: a\rContent-Length: 5\r\n\r\nabcde",
    "a NUL": START + b"X: a\0b\r\n\r\n",
    "a name with a space": START + b"X Y: a\r\n\r\n",
    "no name": START + b": a\r\n\r\n",
    "a bad chunk size": START + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a signed chunk size": START + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n",
    "a chunk with a bare LF": START + b"Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
    "a chunk longer than said": START + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabcdef\r\n0\r\n\r\n",
    "an endless chunk size": START + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffffff\r\n",
    "chunked in HTTP/1.0": b"POST /endpoints/e/x HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "no host": b"GET /endpoints/e/x HTTP/1.1\r\n\r\n",
    "two hosts": START + b"Host: y\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/0.9": b"GET /endpoints/e/x\r\n\r\n",
    "HTTP/1.2": b"GET /endpoints/e/x HTTP/1.2\r\nHost: x\r\n\r\n",
    "CONNECT": b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n",
    "an unknown method": b"STEAL /endpoints/e/x HTTP/1.1\r\nHost: x\r\n\r\n",
    "a control character in the target": b"GET /endpoints/e/\x01 HTTP/1.1\r\nHost: x\r\n\r\n",
    "a byte beyond ASCII in the target": b"GET /endpoints/e/\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "another expectation": START + b"Expect: a miracle\r\nContent-Length: 0\r\n\r\n",
    "an upgrade with a body": START + b"Connection: upgrade\r\nUpgrade: x\r\nContent-Length: 5\r\n\r\nabcde",
    "a long header": START + b"X: " + b"a" * 40_000 + b"\r\n\r\n",
    "an endless header": START + b"X: " + b"a" * 2_000_000,
    "an endless target": b"GET /endpoints/e/" + b"a" * 2_000_000,
    "many headers": START + b"X: a\r\n" * 200 + b"\r\n",
    "many trailers": START + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"X: a\r\n" * 20_000 + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_ambiguous_request_is_refused_and_nothing_behind_it_is_read(door: Door, case: str) -> None:
    with Client(door.port) as client:
        with contextlib.suppress(ConnectionError):  # it may be refused before it was all sent
            client.send(REFUSED[case] + SMUGGLED)
        answer = client.read()
        assert 400 <= answer.status < 600
        assert answer.json["error_code"]
        assert answer.headers["connection"] == "close"
        assert client.closed()
    assert [seen.target for seen in door.backend.seen] in ([], ["/x"])
    assert not door.backend.errors


def test_a_bad_request_after_good_ones_is_refused_in_its_turn(door: Door) -> None:
    good = b"GET /endpoints/e/sleep?s=0.1 HTTP/1.1\r\nHost: x\r\n\r\n"
    with Client(door.port) as client:
        client.send(good + good + REFUSED["two lengths"])
        assert [client.read().status for _ in range(3)] == [200, 200, 400]
        assert client.closed()


def test_bytes_after_connection_close_are_not_read(door: Door) -> None:
    with Client(door.port) as client:
        client.send(START + b"Connection: close\r\nContent-Length: 0\r\n\r\n" + SMUGGLED)
        assert client.read().status == 200
        assert client.closed()
    assert [seen.target for seen in door.backend.seen] == ["/x"]


# Pieces from which heads at the edge of the rules are made.
_NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"content-length", b"Transfer-Encoding", b"TRANSFER-ENCODING", b"Connection", b"TE",
     b"Expect", b"Upgrade", b"Trailer", b"X-Slipway-Deployment", b"X-A", b"Keep-Alive", b" X", b"X\t", b"X-\xe4", b""]
)  # fmt: skip
_VALUES = st.sampled_from(
    [b"0", b"3", b"5", b"03", b"3 ", b"+3", b"3,3", b"chunked", b"Chunked", b"chunked, gzip", b"\tchunked", b"close",
     b"keep-alive", b"host, content-length", b"transfer-encoding", b"100-continue", b"v1", b"", b"\x00", b"a\rb",
     b"\xff"]
) | st.binary(max_size=8)  # fmt: skip
_HEADER = st.builds(lambda n, c, v, e: n + c + v + e, _NAMES, st.sampled_from([b": ", b":", b" :", b""]), _VALUES,
                    st.sampled_from([b"\r\n"] * 8 + [b"\n", b"\r", b"\r\n "]))  # fmt: skip
_BODY = st.sampled_from(
    [b"", b"abc", b"abcde", b"0\r\n\r\n", b"3\r\nabc\r\n0\r\n\r\n", b"3;x\r\nabc\r\n0\r\nA: b\r\n\r\n"]
)
_LINE = st.builds(
    lambda m, t, v: m + b" " + t + b" " + v + b"\r\n",
    st.sampled_from([b"GET", b"POST", b"HEAD", b"PUT", b"CONNECT"]),
    st.sampled_from([b"/endpoints/e/x", b"/endpoints/e/chunked", b"http://y/endpoints/e/x", b"*", b"/endpoints/e/%00"]),
    st.sampled_from([b"HTTP/1.1"] * 6 + [b"HTTP/1.0", b"HTTP/2.0", b"HTTP/1.1 "]),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(_LINE, st.lists(_HEADER, max_size=5), _BODY), min_size=1, max_size=3))
def test_no_head_makes_the_two_sides_disagree(door: Door, messages: list[tuple[bytes, list[bytes], bytes]]) -> None:
    """h11 reads on the other side: it must never see a broken message, nor one whose path was never a target."""
    door.backend.seen.clear()
    data = b"".join(line + b"Host: x\r\n" + b"".join(headers) + b"\r\n" + body for line, headers, body in messages)
    with Client(door.port, 2) as client:
        client.send(data)
        client.socket.shutdown(1)
        received = b""
        try:
            while piece := client.socket.recv(65536):
                received += piece
        except ConnectionResetError:
            pass
    assert not received or received.startswith(b"HTTP/1.1 ")
    assert not door.backend.errors
    assert {seen.target for seen in door.backend.seen} <= {"/x", "/chunked", "/%00"}
    assert len(door.backend.seen) <= len(messages)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=300))
def test_noise_is_refused(door: Door, noise: bytes) -> None:
    with Client(door.port, 2) as client:
        client.send(noise + b"\r\n\r\n")
        client.socket.shutdown(1)
        try:
            received = client.socket.recv(65536)
        except ConnectionResetError:
            return
        assert received == b"" or received.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5"))
