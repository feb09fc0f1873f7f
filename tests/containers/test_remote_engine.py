"""An endpoint on an engine that is reached over TCP with TLS, through a restart of that engine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slipway.errors import Unavailable
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.images.door import ensure_door_image
from tests.containers.conftest import Place
from tests.containers.engines import own_engine
from tests.containers.test_endpoint import answers, live, until

pytestmark = pytest.mark.requires("docker", "root")


def test_an_endpoint_on_a_remote_engine_survives_the_engine_s_restart(
    images: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = DockerEngineHook()
    with own_engine(tmp_path) as engine:
        # Its network leads nowhere, so what it runs is brought to it.
        for image in (images["1"], ensure_door_image(here)):
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
        place.hook.delete_endpoint(place.name)
        assert place.hook.served(place.name) is None


def test_tls_files_must_be_complete(monkeypatch: pytest.MonkeyPatch) -> None:
    connection = {"conn_type": "docker", "host": "tcp://127.0.0.1:9", "extra": {"ca_cert": "/nowhere.pem"}}
    monkeypatch.setenv("AIRFLOW_CONN_HALF", json.dumps(connection))
    with pytest.raises(Exception, match="names ca_cert alone: TLS needs the paths"):
        _ = DockerEngineHook("half").client
