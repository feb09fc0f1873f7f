"""The admin API: who gets in, what each call answers, and what hostile input comes to."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.model_host.hosts import TOKEN, HostProcess, Model

SPEC = {
    "model": "m", "version": "3", "model_uri": "models:/m/3", "artifact_uri": "file:///nowhere",
    "lock_digest": "0" * 64, "auth": "none", "workers": 1, "env": {},
}  # fmt: skip
NOWHERE = Model(Path("/nowhere"), SPEC)


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostProcess]:
    """One host for all tests here: none of its deployments can come up."""
    folder = tmp_path_factory.mktemp("admin")
    host = HostProcess(folder / "home", folder / "environments").start()
    yield host
    assert host.stop() == 0


CALLS = [
    ("GET", "/metrics"),
    ("GET", "/v1/endpoints"),
    ("GET", "/v1/endpoints/e"),
    ("DELETE", "/v1/endpoints/e"),
    ("GET", "/v1/endpoints/e/token"),
    ("POST", "/v1/endpoints/e/live"),
    ("PUT", "/v1/endpoints/e/deployments/v1"),
    ("GET", "/v1/endpoints/e/deployments/v1"),
    ("DELETE", "/v1/endpoints/e/deployments/v1"),
]


def check_error(answer: Any, status: int, code: str | None = None) -> str:
    """Check that an answer is an error as promised, and return its sentence."""
    assert answer.status_code == status, answer.text
    document = answer.json()
    assert set(document) == {"error_code", "message"}
    assert code is None or document["error_code"] == code
    assert document["message"].endswith((".", "…"))
    return str(document["message"])


@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("token", [None, "wrong", TOKEN[:-1], TOKEN + "x", TOKEN.upper()])
def test_every_call_needs_the_token(host: HostProcess, method: str, path: str, token: str | None) -> None:
    answer = host.admin(method, path, token=token)
    check_error(answer, 401, "UNAUTHENTICATED")
    assert answer.headers["www-authenticate"] == "Bearer"


def test_another_scheme_does_not_do(host: HostProcess) -> None:
    for value in (TOKEN, f"Basic {TOKEN}", f"Bearer{TOKEN}", "Bearer"):
        answer = httpx.get(f"{host.admin_url}/v1/endpoints?token={TOKEN}", headers={"Authorization": value})
        check_error(answer, 401, "UNAUTHENTICATED")
    answer = httpx.get(f"{host.admin_url}/v1/endpoints", headers={"Authorization": f"bearer {TOKEN}"})
    assert answer.status_code == 200, "a scheme's name has no case"


def test_health_is_open(host: HostProcess) -> None:
    assert host.admin("GET", "/health", token=None).json() == {"status": "ok"}


@pytest.mark.parametrize(("method", "path"), [call for call in CALLS if call[0] not in {"PUT", "POST"}][2:])
def test_what_is_not_there_is_404(host: HostProcess, method: str, path: str) -> None:
    assert "'e'" in check_error(host.admin(method, path), 404, "RESOURCE_DOES_NOT_EXIST")


def test_no_call_of_the_api(host: HostProcess) -> None:
    check_error(host.admin("GET", "/v2/endpoints"), 404, "ENDPOINT_NOT_FOUND")
    check_error(host.admin("PATCH", "/v1/endpoints/e"), 405, "METHOD_NOT_ALLOWED")


def test_the_live_call(host: HostProcess) -> None:
    check_error(host.admin("POST", "/v1/endpoints/e/live", {"deployment": "v1"}), 404)
    check_error(host.admin("POST", "/v1/endpoints/e/live", {"deployment": "../x"}), 400)
    check_error(host.admin("POST", "/v1/endpoints/e/live", {"deployment": 7}), 400)
    check_error(host.admin("POST", "/v1/endpoints/e/live", {}), 400)
    check_error(host.admin("POST", "/v1/endpoints/e/live", ["v1"]), 400)


@pytest.mark.parametrize(
    "change",
    [
        {"model": ""}, {"model": "a\nb"}, {"model": None}, {"version": ""}, {"lock_digest": "xyz"},
        {"lock_digest": "0" * 63}, {"lock_digest": "../" + "0" * 61}, {"auth": "maybe"}, {"workers": 0},
        {"workers": 65}, {"workers": "many"}, {"env": {"A B": "x"}}, {"env": {"A": None}}, {"env": {"LD_PRELOAD": "x"}},
        {"env": {"PYTHONPATH": "x"}}, {"env": {"SLIPWAY_SCORING_TOKEN": "x"}}, {"env": {"PATH": "x"}},
        {"env": {"A": "x\0y"}}, {"env": {f"A{n}": "" for n in range(65)}}, {"surprise": 1},
    ],
)  # fmt: skip
def test_a_spec_that_breaks_a_rule_is_400(host: HostProcess, change: dict[str, Any]) -> None:
    message = check_error(host.put("spec", "v1", NOWHERE, **change), 400, "INVALID_PARAMETER_VALUE")
    assert next(iter(change)) in message
    check_error(host.admin("GET", "/v1/endpoints/spec"), 404)


def test_a_body_that_is_no_json_is_400(host: HostProcess) -> None:
    for body in (b"", b"{", b"\xff", b"[]", b"null", b'{"model": ' + b"[" * 10_000):
        check_error(host.admin("PUT", "/v1/endpoints/spec/deployments/v1", content=body), 400)


def test_a_giant_body_is_refused_without_being_kept(host: HostProcess) -> None:
    answer = host.admin("PUT", "/v1/endpoints/spec/deployments/v1", content=b"[" + b"1," * 2_000_000)
    check_error(answer, 413, "REQUEST_LIMIT_EXCEEDED")
    answer = host.admin("POST", "/v1/endpoints/spec/live", content=(b"x" * 65536 for _ in range(40)))
    check_error(answer, 413)


@pytest.mark.parametrize(
    "name", ["E", "1e", "-e", "e-", "e_f", "e" * 64, "e%0A", "e%00", "%2e%2e", "e.", "%c3%a4", "e e"]
)
def test_names_that_cannot_name_an_endpoint(host: HostProcess, name: str) -> None:
    check_error(host.put(name, "v1", NOWHERE), 400, "INVALID_PARAMETER_VALUE")
    check_error(host.admin("GET", f"/v1/endpoints/{name}"), 400)


@pytest.mark.parametrize("name", ["-v", "v-", "v..1", "v%0A", "%2e%2e%2fx", "a%2fb", "v" * 129, "~", "v%00"])
def test_names_that_cannot_name_a_deployment(host: HostProcess, name: str) -> None:
    assert host.put("e", name, NOWHERE).status_code in {400, 404}
    assert host.admin("GET", "/v1/endpoints").json() == {"endpoints": []}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=20), st.text(max_size=20), st.binary(max_size=200))
def test_hostile_paths_and_bodies_never_fail_the_host(
    host: HostProcess, endpoint: str, deployment: str, body: bytes
) -> None:
    from urllib.parse import quote

    path = f"/v1/endpoints/{quote(endpoint, safe='/.~')}/deployments/{quote(deployment, safe='/.~')}"
    answer = host.admin("PUT", path, content=body)
    assert answer.status_code in {400, 404, 405, 307}
    assert not list((host.home / "endpoints").iterdir())


def test_long_polls_have_a_number(host: HostProcess) -> None:
    host.put("poll", "v1", NOWHERE)
    assert host.wait("poll", "v1")["state"] == "failed"
    for wait, status in {"nan": 400, "-1": 200, "0.1": 200, "1e9": 200, "soon": 400, "": 400}.items():
        answer = host.admin("GET", f"/v1/endpoints/poll/deployments/v1?wait={wait}")
        assert answer.status_code == status
    assert host.admin("DELETE", "/v1/endpoints/poll").status_code == 200


def test_conflicts(host: HostProcess) -> None:
    host.put("c", "v1", NOWHERE)
    assert host.wait("c", "v1")["state"] == "failed"
    check_error(host.put("c", "v1", NOWHERE, version="4"), 409, "RESOURCE_ALREADY_EXISTS")
    assert "failed" in check_error(host.switch("c", "v1"), 409, "RESOURCE_CONFLICT")
    assert "token" in check_error(host.admin("GET", "/v1/endpoints/c/token"), 404)
    assert host.admin("DELETE", "/v1/endpoints/c/deployments/v1").status_code == 200
    check_error(host.admin("DELETE", "/v1/endpoints/c/deployments/v1"), 404)
    check_error(host.admin("GET", "/v1/endpoints/c"), 404)


def test_metrics(host: HostProcess) -> None:
    host.put("m", "v1", NOWHERE, model='a "quoted\\" name')
    assert host.wait("m", "v1")["state"] == "failed"
    text = host.admin("GET", "/metrics").text
    assert 'slipway_deployment_up{endpoint="m",id="v1",model="a \\"quoted\\\\\\" name",version="3"} 0\n' in text
    assert host.admin("DELETE", "/v1/endpoints/m").status_code == 200
    assert 'endpoint="m"' not in host.admin("GET", "/metrics").text


def test_the_state_and_the_token_are_for_this_user_only(make_host: Callable[..., HostProcess]) -> None:
    host = make_host(environ={"MODEL_HOST_ADMIN_TOKEN": ""})
    token = (host.home / "admin.token").read_text().strip()
    assert host.admin("GET", "/v1/endpoints", token=token).status_code == 200
    host.admin("PUT", "/v1/endpoints/e/deployments/v1", SPEC, token=token)
    for path in (host.home / "admin.token", host.home / "endpoints" / "e.json"):
        assert path.stat().st_mode & 0o077 == 0
    for path in (host.home / name for name in ("endpoints", "models", "logs", "work")):
        assert path.stat().st_mode & 0o077 == 0
    assert json.loads((host.home / "host.json").read_text())["admin_url"] == host.admin_url
    assert host.stop() == 0
    assert not (host.home / "host.json").exists()
    host.start()
    assert host.admin("GET", "/v1/endpoints", token=token).status_code == 200, "the token stays"
    host.stop()


def test_both_listeners_are_on_loopback(host: HostProcess) -> None:
    others = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None)} - {
        "127.0.0.1",
        "::1",
        "127.0.1.1",
    }
    for address in others:
        for url in (host.url, host.admin_url):
            with pytest.raises(OSError, match=r"refused|unreachable"):
                socket.create_connection((address, int(url.rsplit(":", 1)[1])), timeout=2)
