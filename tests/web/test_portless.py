"""What the middleware makes of requests, with a real Starlette behind it."""

from __future__ import annotations

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient

from slipway.portless import PortlessConnectionTest


async def echo(request: Request) -> Response:
    return Response(await request.body(), headers={"X-Length": request.headers["content-length"]})


@pytest.fixture
def client() -> TestClient:
    paths = ("/api/v2/connections/test", "/prefix/api/v2/connections/test", "/api/v2/connections")
    routes = [Route(path, echo, methods=["POST", "PATCH"]) for path in paths]
    return TestClient(Starlette(routes=routes, middleware=[Middleware(PortlessConnectionTest)]))


@pytest.mark.parametrize("path", ["/api/v2/connections/test", "/prefix/api/v2/connections/test"])
@pytest.mark.parametrize(
    ("sent", "arrives"),
    [
        ('{"host": "", "port": 0}', '{"host": ""}'),
        ('{"host": "é", "port": 443}', '{"host": "é", "port": 443}'),
        ('{"port": null}', '{"port": null}'),
        ("[0]", "[0]"),
        ("no JSON", "no JSON"),
    ],
)
def test_only_a_port_of_zero_is_left_out(client: TestClient, path: str, sent: str, arrives: str) -> None:
    answer = client.post(path, content=sent.encode())
    assert answer.text == arrives
    assert answer.headers["X-Length"] == str(len(arrives.encode()))


def test_what_is_no_test_passes_as_it_is(client: TestClient) -> None:
    body = '{"host": "", "port": 0}'
    assert client.post("/api/v2/connections", content=body).text == body
    assert client.patch("/api/v2/connections/test", content=body).text == body
