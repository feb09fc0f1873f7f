"""The API without an Airflow behind it: who may send what, and that the app is made at its first request only."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from airflow.api_fastapi.core_api.security import get_user
from fastapi import FastAPI
from fastapi.testclient import TestClient

from slipway.lazy_app import LazyApp
from slipway.web.guard import SameOrigin

COOKIE = {"Cookie": "_token=x"}


@pytest.fixture(scope="module")
def client() -> TestClient:
    """A route that changes something, with a user who is always let in."""
    app = FastAPI()

    @app.post("/change", dependencies=[SameOrigin])
    def change() -> str:
        return "changed"

    app.dependency_overrides[get_user] = object
    return TestClient(app, base_url="http://airflow.example:8080")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"Origin": "http://airflow.example:8080"}, 200),
        ({"Origin": "http://airflow.example:8080", "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "none"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://airflow.example"}, 403),
        ({"Origin": "http://evil.example/airflow.example:8080"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "http://evil.example", "Authorization": "Bearer token"}, 200),
        ({"Origin": "http://evil.example", "Authorization": "Basic x"}, 403),
    ],
)
def test_a_cookie_alone_works_from_our_own_pages_only(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.post("/change", headers=COOKIE | headers).status_code == status


def test_the_app_is_made_when_it_is_first_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []

    def make() -> FastAPI:
        made.append(1)
        app = FastAPI()

        @app.get("/")
        def root() -> str:
            return "here"

        return app

    module: Any = type(sys)("made_later")
    module.make = make
    monkeypatch.setitem(sys.modules, "made_later", module)
    lazy = LazyApp("made_later:make")
    assert made == []
    client = TestClient(lazy)
    assert client.get("/").json() == client.get("/").json() == "here"
    assert made == [1]
