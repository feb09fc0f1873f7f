"""`kill -9` of a scoring server and of the host, hung servers, and two hosts on one home."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from tests.model_host.hosts import REPO, TOKEN, HostProcess, ModelMaker, alive, until
from tests.model_host.wire import Answer, Client


def test_a_killed_scoring_server_is_back_by_itself(host: HostProcess, models: ModelMaker) -> None:
    host.deploy("e", "v1", models.make("1"))
    before = host.deployment("e", "v1")
    group = [before["pid"], *(child.pid for child in psutil.Process(before["pid"]).children(recursive=True))]
    body = json.dumps({"dataframe_records": [{"x": 1}]}).encode()
    target = "/endpoints/e/invocations"
    with Client(int(host.url.rsplit(":", 1)[1])) as client:

        def ask() -> Answer:
            return client.ask(target, "POST", "Content-Type: application/json\r\n", body)

        assert ask().status == 200
        # Its worker may still answer until the host ends that too.
        os.kill(before["pid"], signal.SIGKILL)
        statuses: list[int] = []
        while 503 not in statuses or statuses[-1] != 200:
            answer = ask()
            statuses.append(answer.status)
            if answer.status != 200:
                assert answer.status == 503
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.json["error_code"] == "TEMPORARILY_UNAVAILABLE"
            assert len(statuses) < 2000
            time.sleep(0.02)
    after = host.deployment("e", "v1")
    assert (after["state"], after["restarts"]) == ("live", 1)
    assert after["pid"] != before["pid"]
    assert not alive(group), "the workers of the killed server are gone too"


def test_a_killed_host_leaves_no_orphans_and_comes_back_whole(
    make_host: Callable[..., HostProcess], models: ModelMaker
) -> None:
    host = make_host()
    host.deploy("one", "v1", models.make("1"))
    host.deploy("one", "v2", models.make("2"))
    host.deploy("two", "v1", models.make("1"), workers=2, auth="token")
    host.deploy("gone", "v1", models.make("1"))
    assert host.admin("DELETE", "/v1/endpoints/gone").status_code == 200
    token = host.admin("GET", "/v1/endpoints/two/token").json()["token"]
    host.put("three", "candidate", models.make("3"))
    assert host.wait("three", "candidate")["state"] == "ready"
    children = [child.pid for child in host.children()]
    assert len(children) >= 4

    host.kill()
    until(lambda: not alive(children), 3)
    host.start()

    until(lambda: host.score("one").status_code == 200, 20)
    assert host.score("one").json() == {"predictions": ["2"]}
    until(lambda: host.score("two", {"Authorization": f"Bearer {token}"}).status_code == 200, 20)
    assert host.wait("three", "candidate")["state"] == "ready", "a candidate is made again"
    assert host.score("gone").status_code == 404
    assert host.admin("GET", "/v1/endpoints/one").json()["previous"] == "v1"
    assert host.switch("one", "v1").status_code == 200
    assert host.score("one").json() == {"predictions": ["1"]}
    children = [child.pid for child in host.children()]
    assert host.stop() == 0
    assert not alive(children)


def test_a_host_killed_within_a_switch_serves_the_one_or_the_other(
    make_host: Callable[..., HostProcess], models: ModelMaker
) -> None:
    host = make_host()
    host.deploy("e", "v1", models.make("1"))
    for number, pause in enumerate((0.0, 0.004, 0.02), start=2):
        model = models.make(str(number))
        # 409 while a candidate that an earlier round left is coming up again.
        until(lambda v=number, m=model: host.put("e", f"v{v}", m).status_code == 202, 20)  # type: ignore[misc]
        assert host.wait("e", f"v{number}")["state"] == "ready"
        with ThreadPoolExecutor(1) as pool:
            switch = pool.submit(host.switch, "e", f"v{number}")
            time.sleep(pause)
            host.kill()
            told = switch.exception() is None
        host.start()
        assert host.wait("e", f"v{number}")["state"] in {"ready", "live"}
        endpoint = host.admin("GET", "/v1/endpoints/e").json()
        assert endpoint["live"] == f"v{number}" or not told, "what a client was told holds"
        until(lambda: host.score("e").status_code == 200, 20)
        assert host.score("e").json() == {"predictions": [endpoint["live"][1:]]}
        states = {found["id"]: found["state"] for found in endpoint["deployments"]}
        assert [name for name, state in states.items() if state == "live"] == [endpoint["live"]]


def test_a_host_killed_while_it_prepares_leaves_nothing_half_made(
    make_host: Callable[..., HostProcess], models: ModelMaker
) -> None:
    host = make_host(environments_dir=models.folder / "other-environments")
    for pause in (0.0, 0.05, 0.15, 0.3, 0.6):
        host.put("e", "v1", models.make("1"))
        time.sleep(pause)
        children = [child.pid for child in host.children()]
        host.kill()
        until(lambda pids=children: not alive(pids), 3)  # type: ignore[misc]
        host.start()
    host.put("e", "v1", models.make("1"))
    assert host.wait("e", "v1")["state"] == "ready"
    assert host.switch("e", "v1").status_code == 200
    assert host.score("e").json() == {"predictions": ["1"]}


@pytest.mark.parametrize("how", ["stopped", "holding its lock"])
def test_a_hung_server_is_killed_and_started_again(
    make_host: Callable[..., HostProcess], models: ModelMaker, how: str
) -> None:
    host = make_host(health_interval_seconds=0.3, health_timeout_seconds=0.3, health_failures=2, stop_seconds=1)
    host.deploy("e", "v1", models.make("1"))
    before = host.deployment("e", "v1")["pid"]
    if how == "stopped":
        os.killpg(before, signal.SIGSTOP)
    else:
        with Client(int(host.url.rsplit(":", 1)[1])) as client:
            body = json.dumps({"dataframe_records": [{"do": "hang"}]}).encode()
            client.ask("/endpoints/e/invocations", "POST", "Content-Type: application/json\r\n", body)
    until(lambda: host.deployment("e", "v1")["pid"] not in {before, None}, 10)
    until(lambda: host.score("e").status_code == 200, 10)
    assert not alive([before])


def test_a_server_that_keeps_dying_is_started_ever_more_seldom(
    make_host: Callable[..., HostProcess], models: ModelMaker
) -> None:
    host = make_host(backoff_seconds=0.2, backoff_max_seconds=0.8)
    host.deploy("e", "v1", models.make("1"))
    fetched = next((host.home / "models").glob("*/model/data/artifacts/version.txt"))
    fetched.write_text("broken")
    os.kill(host.deployment("e", "v1")["pid"], signal.SIGKILL)
    until(lambda: host.deployment("e", "v1")["restarts"] >= 3, 30)
    found = host.deployment("e", "v1")
    assert found["state"] == "live"
    assert not found["up"]
    answer = host.score("e")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) <= 3
    until(lambda: "another planet" in (host.deployment("e", "v1")["error"] or ""), 10)
    fetched.write_text("mended")
    until(lambda: host.score("e").status_code == 200, 15)
    assert host.deployment("e", "v1")["error"] is None


def test_a_candidate_that_dies_after_it_was_ready_has_failed(host: HostProcess, models: ModelMaker) -> None:
    host.put("e", "v1", models.make("1"))
    os.kill(host.wait("e", "v1")["pid"], signal.SIGKILL)
    until(lambda: host.deployment("e", "v1")["state"] == "failed", 5)
    assert "SIGKILL" in host.deployment("e", "v1")["error"]
    assert host.switch("e", "v1").status_code == 409


def test_a_dead_guardian_is_replaced(host: HostProcess, models: ModelMaker) -> None:
    host.deploy("e", "v1", models.make("1"), workers=2)
    guardian = next(child for child in host.children() if "guardian.py" in " ".join(child.cmdline()))
    guardian.kill()
    until(lambda: any("guardian.py" in " ".join(c.cmdline()) for c in host.children() if c.pid != guardian.pid), 5)
    time.sleep(0.2)
    children = [child.pid for child in host.children()]
    host.kill()
    until(lambda: not alive(children), 3)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "already uses"),
        (["--home", "/proc/nowhere"], "--home"),
        (["--home", "{tmp}/fresh", "--port", "{port}"], "another --port"),
        (["--home", "{tmp}/fresh", "--drain-seconds", "soon"], "--drain-seconds"),
        (["--home", "{tmp}/fresh", "--public-url", "example.org"], "--public-url"),
    ],
)
def test_a_host_that_cannot_start_says_why_in_a_sentence(host: HostProcess, arguments: list[str], words: str) -> None:
    port = host.url.rsplit(":", 1)[1]
    given = [text.format(tmp=host.home.parent, port=port) for text in arguments] or ["--home", str(host.home)]
    done = subprocess.run(
        [sys.executable, "-m", "slipway_model_host", "--port", "0", "--admin-port", "0", *given],
        env={"PYTHONPATH": str(REPO / "include/model_host"), "MODEL_HOST_ADMIN_TOKEN": TOKEN},
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
