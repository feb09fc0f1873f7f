"""Deploy, redeploy, undeploy on a real host with real scoring servers."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.model_host.hosts import HostProcess, ModelMaker, alive, until


def test_deploy_redeploy_and_undeploy(host: HostProcess, models: ModelMaker) -> None:
    answer = host.put("e", "v1", models.make("1"))
    assert answer.status_code == 202
    assert answer.json()["state"] == "preparing"
    assert host.score("e").status_code == 503, "there is no live deployment yet"
    first = host.wait("e", "v1")
    assert first["state"] == "ready", first
    assert host.score("e", {"X-Slipway-Deployment": "v1"}).json() == {"predictions": ["1"]}
    assert host.put("e", "v1", models.make("1")).status_code == 200, "the same again is adopted"
    assert host.switch("e", "v1").json()["live"] == "v1"
    assert host.switch("e", "v1").status_code == 200
    assert host.score("e").json() == {"predictions": ["1"]}
    assert httpx.get(f"{first['url']}/version").status_code == 200

    endpoint = host.deploy("e", "v2", models.make("2"))
    assert (endpoint["live"], endpoint["previous"]) == ("v2", "v1")
    assert host.score("e").json() == {"predictions": ["2"]}
    until(lambda: host.deployment("e", "v1")["state"] == "stopped", 10)
    assert not alive([first["pid"]])

    assert host.switch("e", "v1").status_code == 200, "back to the one before, which is started again"
    assert host.score("e").json() == {"predictions": ["1"]}
    host.deploy("e", "v3", models.make("3"))
    assert [found["id"] for found in host.admin("GET", "/v1/endpoints/e").json()["deployments"]] == ["v1", "v3"]

    live = host.deployment("e", "v3")["pid"]
    assert host.admin("DELETE", "/v1/endpoints/e").status_code == 200
    assert not alive([live])
    assert host.admin("DELETE", "/v1/endpoints/e").status_code == 404
    assert host.score("e").status_code == 404
    assert host.admin("GET", "/v1/endpoints").json() == {"endpoints": []}
    assert not list((host.home / "endpoints").iterdir())


def test_a_switch_back_at_once_takes_the_draining_one(host: HostProcess, models: ModelMaker) -> None:
    host.deploy("e", "v1", models.make("1"))
    pid = host.deployment("e", "v1")["pid"]
    host.put("e", "v2", models.make("2"))
    assert host.wait("e", "v2")["state"] == "ready"
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(host.score, "e", do="sleep", s=1.5)
        until(lambda: host.deployment("e", "v1")["in_flight"] == 1, 5)
        host.switch("e", "v2")
        assert host.deployment("e", "v1")["state"] == "draining"
        assert host.switch("e", "v1").json()["previous"] == "v2"
        assert slow.result().json() == {"predictions": ["1"]}
    assert host.deployment("e", "v1")["pid"] == pid
    assert host.score("e").json() == {"predictions": ["1"]}


def test_a_request_in_flight_outlives_a_switch(host: HostProcess, models: ModelMaker) -> None:
    host.deploy("e", "v1", models.make("1"))
    pid = host.deployment("e", "v1")["pid"]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(host.score, "e", do="sleep", s=2)
        until(lambda: host.deployment("e", "v1")["in_flight"] == 1, 5)
        host.deploy("e", "v2", models.make("2"))
        assert host.score("e").json() == {"predictions": ["2"]}
        assert alive([pid])
        assert slow.result().json() == {"predictions": ["1"]}
    until(lambda: not alive([pid]), 10)


def test_a_drain_has_an_end(make_host: Callable[..., HostProcess], models: ModelMaker) -> None:
    host = make_host(drain_seconds=0.5, stop_seconds=0.5)
    host.deploy("e", "v1", models.make("1"))
    pid = host.deployment("e", "v1")["pid"]
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(host.score, "e", do="sleep", s=20)
        until(lambda: host.deployment("e", "v1")["in_flight"] == 1, 5)
        host.deploy("e", "v2", models.make("2"))
        until(lambda: not alive([pid]), 5)
        assert slow.result().status_code == 503


def test_a_scoring_server_has_limits_and_a_group_of_its_own(
    make_host: Callable[..., HostProcess], models: ModelMaker
) -> None:
    host = make_host(server_memory_bytes=4 * 1024**3, server_open_files=512)
    host.deploy("e", "v1", models.make("1"))
    pid = host.deployment("e", "v1")["pid"]
    limits = {line[:25].strip(): line[25:].split() for line in Path(f"/proc/{pid}/limits").read_text().splitlines()}
    assert limits["Max data size"][:2] == [str(4 * 1024**3)] * 2
    assert limits["Max open files"][:2] == ["512", "512"]
    assert limits["Max core file size"][0] == "0"
    assert os.getpgid(pid) == os.getsid(pid) == pid


@pytest.mark.parametrize(
    ("version", "options", "words"),
    [
        ("broken", {}, "the weights are from another planet"),
        ("endless", {"start_seconds": 3}, "not ready within 3 s"),
    ],
)
def test_a_failing_candidate_leaves_the_live_one_alone(
    make_host: Callable[..., HostProcess], models: ModelMaker, version: str, options: dict[str, float], words: str
) -> None:
    host = make_host(**options)
    host.deploy("e", "v1", models.make("1"))
    assert host.put("e", "bad", models.make(version)).status_code == 202
    failed = host.wait("e", "bad")
    assert failed["state"] == "failed"
    assert words in failed["error"]
    assert failed["log_tail"]
    assert failed["pid"] is None
    answer = host.switch("e", "bad")
    assert answer.status_code == 409
    assert host.score("e").json() == {"predictions": ["1"]}
    assert host.admin("DELETE", "/v1/endpoints/e/deployments/bad").status_code == 200
    assert host.admin("GET", "/v1/endpoints/e").json()["live"] == "v1"


def test_a_failed_deployment_put_again_starts_over(host: HostProcess, models: ModelMaker) -> None:
    model = models.make("fragile")
    version = model.folder / "data" / "artifacts" / "version.txt"
    version.unlink()
    host.put("e", "v1", model)
    assert host.wait("e", "v1")["state"] == "failed"
    # The files are fetched once for each artifact URI: mend what was fetched.
    fetched = next((host.home / "models").glob("*/model/data/artifacts"))
    (fetched / "version.txt").write_text("mended")
    assert host.put("e", "v1", model).status_code == 202
    assert host.wait("e", "v1")["state"] == "ready"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"artifact_uri": "file:///nowhere/at/all"}, "/nowhere/at/all"),
        ({"artifact_uri": "mlflow-artifacts:/1/x"}, "MODEL_HOST_TRACKING_URI"),
        ({"lock_digest": "0" * 64}, "digest"),
    ],
)
def test_what_cannot_be_prepared_fails_with_a_sentence(
    host: HostProcess, models: ModelMaker, changes: dict[str, str], words: str
) -> None:
    host.put("e", "v1", models.make("1"), **changes)
    failed = host.wait("e", "v1")
    assert failed["state"] == "failed"
    assert words in failed["error"]


def test_two_puts_at_once(host: HostProcess, models: ModelMaker) -> None:
    one, two = models.make("1"), models.make("2")
    with ThreadPoolExecutor(8) as pool:
        same = [pool.submit(host.put, "same", "v1", one) for _ in range(4)]
        different = [pool.submit(host.put, "different", *pair) for pair in (("v1", one), ("v2", two))]
        assert sorted(answer.result().status_code for answer in same) == [200, 200, 200, 202]
        assert sorted(answer.result().status_code for answer in different) == [202, 409]
    assert host.wait("same", "v1")["state"] == "ready"


def test_a_candidate_is_removed_when_its_lease_ends(make_host: Callable[..., HostProcess], models: ModelMaker) -> None:
    host = make_host(lease_seconds=4)
    host.deploy("e", "v1", models.make("1"))
    host.put("e", "v2", models.make("2"))
    pid = host.wait("e", "v2")["pid"]
    host.put("new", "v1", models.make("1"))
    until(lambda: host.admin("GET", "/v1/endpoints/e/deployments/v2").status_code == 404, 15)
    until(lambda: host.admin("GET", "/v1/endpoints/new").status_code == 404, 15)
    until(lambda: not alive([pid]), 5)
    assert host.score("e").json() == {"predictions": ["1"]}


def test_an_endpoint_with_a_token(host: HostProcess, models: ModelMaker) -> None:
    endpoint = host.deploy("e", "v1", models.make("1"), auth="token", env={"MY_SETTING": "x"})
    assert endpoint["auth"] == "token"
    token = host.admin("GET", "/v1/endpoints/e/token").json()["token"]
    assert host.score("e").status_code == 401
    assert host.score("e", {"Authorization": "Bearer wrong"}).status_code == 401
    assert host.score("e", {"Authorization": f"Bearer {token}"}).json() == {"predictions": ["1"]}
    host.deploy("e", "v2", models.make("2"), auth="token")
    assert host.admin("GET", "/v1/endpoints/e/token").json()["token"] == token, "a redeploy keeps the clients' token"


def test_a_scoring_server_gets_nothing_of_the_hosts_secrets(
    make_host: Callable[..., HostProcess], models: ModelMaker
) -> None:
    host = make_host(environ={"AWS_SECRET_ACCESS_KEY": "secret", "PASSED": "yes"}, pass_env="PASSED")
    host.deploy("e", "v1", models.make("1"), env={"MINE": "1"})
    pid = host.deployment("e", "v1")["pid"]
    variables = dict(pair.split("=", 1) for pair in Path(f"/proc/{pid}/environ").read_text().split("\0") if pair)
    assert (variables["PASSED"], variables["MINE"]) == ("yes", "1")
    assert not {"AWS_SECRET_ACCESS_KEY", "MODEL_HOST_ADMIN_TOKEN", "SLIPWAY_SCORING_TOKEN"} & variables.keys()
    assert variables["HOME"].startswith(str(host.home))
