"""Endpoints on an engine that is reached over TCP with TLS, through a restart of that engine, and over ssh."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from slipway.errors import Unavailable, UserError
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.images.door import ensure_door_image
from slipway.images.ensure import ensure_in_engine
from slipway.triggers.docker import DockerDeploymentTrigger
from tests.containers.conftest import Place
from tests.containers.engines import own_engine
from tests.containers.ssh import SshServer, make_key, running_sshd
from tests.containers.test_endpoint import answers, live, until
from tests.images.conftest import small
from tests.images.test_registries import Make

__all__ = ["small"]

pytestmark = pytest.mark.requires("docker")


@pytest.fixture(scope="module")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with running_sshd(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def home(sshd: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The home of a user who has never used ssh; connection `remote` is the engine behind the server."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    connection = {"conn_type": "docker", "host": sshd.address, "extra": {"bind": "127.0.0.1"}}
    monkeypatch.setenv("AIRFLOW_CONN_REMOTE", json.dumps(connection))
    return tmp_path


@pytest.mark.requires("sshd")
def test_an_image_is_built_and_an_endpoint_lives_over_ssh(
    sshd: SshServer, home: Path, images: dict[str, str], small: Make
) -> None:
    sshd.let_in(home)
    engine = DockerEngineHook("remote")
    assert ensure_in_engine(small(), engine)["built"]
    place = Place(images, "remote")
    try:
        deployment = live(place, "1")
        assert answers(place, ["1"])
        served = place.hook.served(place.name)
        assert served is not None
        assert served.live == deployment
    finally:
        place.hook.delete_endpoint(place.name)


@pytest.mark.requires("sshd")
def test_a_host_that_is_not_known_is_not_trusted(sshd: SshServer, home: Path) -> None:
    told = rf"host of {sshd.address} is unknown, .* `ssh-keyscan -p {sshd.port} 127.0.0.1`"
    with pytest.raises(UserError, match=told):
        _ = DockerEngineHook("remote").client
    sshd.let_in(home, host_key=make_key(home / "another"))
    with pytest.raises(UserError, match=rf"host of {sshd.address} has another key than ~/.ssh/known_hosts names"):
        _ = DockerEngineHook("remote").client


@pytest.mark.requires("sshd")
def test_a_key_that_the_host_does_not_take_is_told_at_once(sshd: SshServer, home: Path) -> None:
    sshd.let_in(home, user_key=make_key(home / "another"))
    with pytest.raises(UserError, match=rf"host of {sshd.address} takes no key .*: put a private key"):
        _ = DockerEngineHook("remote").client
    (home / ".ssh" / "id_ed25519").unlink()
    with pytest.raises(UserError, match=rf"host of {sshd.address} takes no key .*: put a private key"):
        _ = DockerEngineHook("remote").client


@pytest.mark.requires("root")
def test_an_endpoint_on_a_remote_engine_survives_the_engine_s_restart(
    images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = DockerEngineHook()
    with own_engine(tmp_path) as engine:
        # Its network leads nowhere, so what it runs is brought to it.
        for image in (images["1"], images["2"], ensure_door_image(here)):
            engine.client().load_image(here.client.get_image(image))
        monkeypatch.setenv("AIRFLOW_CONN_REMOTE", engine.connection)
        place = Place(images, "remote")
        deployment = live(place, "1")
        url = place.hook.url(place.name)
        assert answers(place, ["1"])
        engine.stop()
        with pytest.raises(Unavailable, match=r"No Docker Engine answers at tcp://127.0.0.1:\d+ .* 'remote' names"):
            Place(images, "remote").hook.served(place.name)
        engine.start()
        until(lambda: answers(place, ["1"]))
        served = place.hook.served(place.name)
        assert served is not None
        assert (served.live, place.hook.url(place.name)) == (deployment, url)

        # In the middle of a deploy: the engine's end is the candidate's, which nobody but the wait starts again.
        candidate = place.put("2")
        engine.stop()
        engine.start()
        waiting = DockerDeploymentTrigger("remote", place.name, candidate, time.time() + 120)
        assert asyncio.run(anext(waiting.run())).payload == {}
        place.hook.set_live(place.name, candidate)
        assert answers(place, ["2"])
        place.hook.delete_endpoint(place.name)
        assert place.hook.served(place.name) is None


def test_tls_files_must_be_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "docker", "host": "tcp://127.0.0.1:9", "extra": {"ca_cert": "/nowhere.pem"}}
    monkeypatch.setenv("AIRFLOW_CONN_HALF", json.dumps(connection))
    with pytest.raises(Exception, match="names ca_cert alone: TLS needs the paths"):
        _ = DockerEngineHook("half").client
