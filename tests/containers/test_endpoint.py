"""Endpoints in real containers: the swap, crashes, and what does not come up."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from slipway.containers import names
from slipway.containers.spec import parse_cpus, parse_env, parse_memory
from slipway.domain import DeploymentRecord
from slipway.errors import Unavailable, UserError
from slipway.hooks.docker import DockerEndpointHook
from slipway.hooks.docker_candidate import Candidate
from slipway.targets import Served
from slipway.web.page.endpoint import figures, health
from tests.containers.conftest import Place

pytestmark = pytest.mark.requires("docker")

ROWS = {"dataframe_split": {"columns": ["x"], "data": [[1]]}}
CLIENTS = 4


def until(true: Callable[[], bool], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not come to be"
        time.sleep(0.1)


def live(place: Place, version: str) -> str:
    """Take a version into service."""
    deployment = place.put(version)
    until(lambda: place.hook.deployment_state(place.name, deployment) == "ready")
    place.hook.set_live(place.name, deployment)
    return deployment


def kill(place: Place, container: str) -> None:
    """As the kernel kills: the engine is not asked."""
    os.kill(place.hook.engine.client.inspect_container(container)["State"]["Pid"], signal.SIGKILL)


def answers(place: Place, expected: list[str]) -> bool:
    try:
        return httpx.post(f"{place.hook.url(place.name)}/invocations", json=ROWS).json() == {"predictions": expected}
    except httpx.TransportError:
        return False


def test_no_request_is_lost_while_versions_change(place: Place) -> None:
    live(place, "1")
    url, over = place.hook.url(place.name), threading.Event()

    def ask(_: int) -> Counter[str]:
        own: Counter[str] = Counter()
        # One connection for all: it must outlive every switch.
        with httpx.Client(timeout=60) as client:
            while not over.is_set():
                answer = client.post(f"{url}/invocations", json=ROWS)
                own[f"{answer.status_code} {answer.text}"] += 1
        return own

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(ask, number) for number in range(CLIENTS)]
        try:
            second = live(place, "2")
            assert place.hook.stop_others(place.name, second) == ["v1-00000000"]
            place.hook.stop_others(place.name, live(place, "1"))
        finally:
            over.set()
        total = sum((client.result() for client in clients), Counter())
    print(f"{total.total()} requests over 2 swaps: {dict(total)}")
    assert set(total) == {'200 {"predictions":["1"]}', '200 {"predictions":["2"]}'}


def test_a_candidate_is_reached_before_it_serves_and_the_old_one_can_serve_again(place: Place) -> None:
    first = live(place, "1")
    second = place.put("2")
    until(lambda: place.hook.deployment_state(place.name, second) == "ready")
    assert place.hook.invoke(place.name, ROWS, deployment=second) == ["2"]
    assert place.hook.invoke(place.name, ROWS) == ["1"]
    place.hook.set_live(place.name, second)
    place.hook.set_live(place.name, second)
    assert place.hook.served(place.name) == Served(place.name, "echo", second, first, frozenset({first, second}))
    place.hook.set_live(place.name, first)
    assert place.hook.invoke(place.name, ROWS) == ["1"]
    place.hook.delete_deployment(place.name, second)
    place.hook.delete_deployment(place.name, second)
    assert place.hook.served(place.name) == Served(place.name, "echo", first, None, frozenset({first}))


def test_what_is_live_is_not_removed_and_nothing_is_where_the_door_does_not_say(place: Place) -> None:
    first, second = live(place, "1"), place.put("2")
    with pytest.raises(UserError, match=f"{first} .* is live"):
        place.hook.delete_deployment(place.name, first)
    place.hook.engine.client.stop(names.door_name(place.name))
    unknown = Served(place.name, "echo", None, None, frozenset({first, second}), answers=False)
    assert place.hook.served(place.name) == unknown
    for deployment in (first, second):
        with pytest.raises(Unavailable, match="does not run"):
            place.hook.delete_deployment(place.name, deployment)
        with pytest.raises(Unavailable, match="cannot be told"):
            place.hook.stop_others(place.name, deployment)
    place.put("2")
    until(lambda: answers(place, ["1"]))


def test_the_models_page_sees_whether_it_answers_and_what_it_counts(place: Place) -> None:
    deployment = live(place, "1")
    record = DeploymentRecord(
        endpoint=place.name, target="docker", url="http://elsewhere", model="echo", version="1", deployment=deployment,
        deployed_at=datetime.now(UTC), run="deploy_docker/x",
    )  # fmt: skip
    assert health(record, "docker_default").state == "well"
    before = figures(record, "docker_default")
    assert answers(place, ["1"])
    assert figures(record, "docker_default").requests == before.requests + 1
    place.hook.engine.client.stop(names.door_name(place.name))
    assert health(record, "docker_default").state == "ill"


@pytest.mark.requires("root")
def test_killed_containers_come_back_and_serve_what_they_served(place: Place) -> None:
    deployment = live(place, "1")
    place.put("2")
    url = place.hook.url(place.name)
    for container in (names.server_name(place.name, deployment), names.door_name(place.name)):
        kill(place, container)
        until(lambda: answers(place, ["1"]))
    assert place.hook.url(place.name) == url


def test_a_server_that_does_not_come_up_is_quoted_and_what_serves_serves_on(place: Place) -> None:
    live(place, "1")
    broken = place.put("broken")

    def failed() -> bool:
        try:
            return place.hook.deployment_state(place.name, broken) == "ready"
        except UserError as e:
            message = str(e)
            assert "ended with status 3; the end of its log:" in message
            assert "the weights are from another planet" in message
            return True

    until(failed)
    assert place.hook.invoke(place.name, ROWS) == ["1"]


def test_containers_are_confined_and_limited(place: Place) -> None:
    deployment = place.put("1", cpus=0.5, memory=300 << 20)
    host: dict[str, Any] = place.hook.engine.client.inspect_container(names.server_name(place.name, deployment))[
        "HostConfig"
    ]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert (host["NanoCpus"], host["Memory"], host["MemorySwap"]) == (500_000_000, 300 << 20, 300 << 20)


def test_a_port_that_is_taken_is_refused_and_nothing_stays(place: Place) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=f"Port {port} of the engine's machine is taken: free it"):
            place.put("1", port=port)
    assert place.hook.served(place.name) is None


def test_a_port_cannot_be_changed_under_an_endpoint(place: Place) -> None:
    place.put("1")
    port = int(place.hook.url(place.name).rpartition(":")[2])
    with pytest.raises(
        UserError, match=f"is on port {port} and not {port + 1}: leave port out, or run undeploy_docker"
    ):
        place.put("2", port=port + 1)


def test_an_endpoint_is_removed_whole_and_again(place: Place) -> None:
    place.put("1")
    place.hook.delete_endpoint(place.name)
    place.hook.delete_endpoint(place.name)
    assert place.hook.served(place.name) is None
    volumes = place.hook.engine.client.volumes(filters={"name": names.volume_name(place.name)})["Volumes"]
    assert not volumes


@pytest.mark.parametrize(
    ("parse", "value", "told"),
    [
        (parse_cpus, "many", "cpus is 'many'"),
        (parse_cpus, 0, "cpus is 0"),
        (parse_memory, "1 elephant", "memory is '1 elephant'"),
        (parse_memory, "1m", "at least 6m"),
        (parse_env, ["A=1"], "env must be an object"),
        (parse_env, {"SLIPWAY_SCORING_UDS": "/x"}, "set by the deploy"),
        (parse_env, {"a b": "1"}, "no variable's name"),
    ],
)
def test_wrong_limits_are_refused(parse: Callable[[Any], Any], value: Any, told: str) -> None:
    with pytest.raises(UserError, match=told):
        parse(value)


def test_limits_are_read() -> None:
    assert (parse_cpus("0.5"), parse_cpus(None), parse_memory("512m"), parse_memory("1.5Gi"), parse_env(None)) == (
        0.5, None, 512 << 20, 3 << 29, {},
    )  # fmt: skip


def test_a_candidate_is_started_once_more_and_not_again_and_again(place: Place) -> None:
    name = names.server_name(place.name, place.put("1"))
    candidate = Candidate("docker_default", place.name, "v1-00000000")
    place.hook.engine.client.kill(name)
    until(lambda: candidate.state() == "ready")
    place.hook.engine.client.kill(name)
    with pytest.raises(UserError, match=f"Container {name} ended with status 137"):
        candidate.state()


def test_two_equal_deploys_at_once_share_what_the_first_makes(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    name = names.server_name(place.name, place.put("1"))
    made = place.hook.engine.client.inspect_container(name)["Id"]
    real, looked = DockerEndpointHook._find, []

    def too_early(self: DockerEndpointHook, wanted: str) -> dict[str, Any] | None:
        looked.append(wanted)
        return None if looked.count(name) == 1 and wanted == name else real(self, wanted)

    monkeypatch.setattr(DockerEndpointHook, "_find", too_early)
    place.put("1")
    assert looked.count(name) == 2
    assert place.hook.engine.client.inspect_container(name)["Id"] == made


def test_a_name_in_use_is_a_matter_of_time(place: Place) -> None:
    name = names.server_name(place.name, place.put("1"))
    engine = place.hook.engine
    image = engine.client.inspect_container(name)["Image"]
    with pytest.raises(Unavailable, match="already in use"), engine.errors("It cannot be made"):
        engine.client.create_container(image, name=name)
