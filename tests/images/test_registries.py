"""Images into real registries, by a real engine: built once, found again, and what goes wrong on the way."""

from __future__ import annotations

import json
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest

from slipway.errors import Unavailable, UserError
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.images import context
from slipway.images.ensure import Ingredients, ensure_in_registry
from tests.images.conftest import BASE, saved
from tests.images.registries import running_registry

pytestmark = pytest.mark.requires("docker", "docker-registry")
SECRET = "a-planted-secret-4711"

Make = Callable[[], Ingredients]


def connect(monkeypatch: pytest.MonkeyPatch, host: str, name: str = "registry", **login: str) -> str:
    monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps({"conn_type": "docker", "host": host, **login}))
    return name


def test_an_image_is_built_once_and_then_found_without_an_engine(
    registry: str, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, made_of, engine = connect(monkeypatch, registry), small(), DockerEngineHook()
    first = ensure_in_registry(made_of, name, engine)
    assert first["built"]
    assert re.fullmatch(rf"{registry}/{made_of.repository}@sha256:[0-9a-f]{{64}}", first["image"])
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    assert ensure_in_registry(made_of, name, DockerEngineHook()) == {**first, "built": False}
    engine.client.remove_image(f"{first['repository']}:{first['tag']}")
    engine.pull(first["image"], None)
    assert engine.find_image(first["image"]) is not None


def test_two_at_once_build_one_image(registry: str, small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    name, made_of = connect(monkeypatch, registry), small()
    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(lambda _: ensure_in_registry(made_of, name, DockerEngineHook()), range(2)))
    assert sorted(result["built"] for result in both) == [False, True]
    assert both[0]["image"] == both[1]["image"]


def test_a_login_is_asked_for_and_neither_it_nor_any_secret_of_the_worker_s_is_shown(
    tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for name in ("AIRFLOW_CONN_OTHER", "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "MODEL_HOST_ADMIN_TOKEN"):
        monkeypatch.setenv(name, f"http://somebody:{SECRET}@elsewhere")
    # These the build is given; and that it may do without them.
    for name in ("HTTP_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://somebody:{SECRET}@127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "*")
    users = tmp_path / "users"
    users.write_text(f"pusher:{bcrypt.hashpw(SECRET.encode(), bcrypt.gensalt(4)).decode()}\n")
    settings = f"auth: {{htpasswd: {{realm: here, path: {users}}}}}\n"
    with running_registry(tmp_path / "registry", settings=settings) as host:
        made_of, engine = small(), DockerEngineHook()
        wrong = connect(monkeypatch, host, login="pusher", password="wrong")
        with pytest.raises(UserError, match=r"refuses the login of connection 'registry' \(HTTP 401\): correct it"):
            ensure_in_registry(made_of, wrong, engine)
        right = connect(monkeypatch, host, "right", login="pusher", password=SECRET)
        pushed = ensure_in_registry(made_of, right, engine)
        assert pushed["built"]
        assert SECRET not in json.dumps(pushed)
        assert SECRET not in caplog.text
        tagged = f"{pushed['repository']}:{pushed['tag']}"
        assert SECRET not in json.dumps([engine.client.inspect_image(tagged), engine.client.history(tagged)])
        files = saved(engine, tagged)
        assert any(made_of.repository.encode() in data for data in files), "not even the program is found"
        assert not any(SECRET.encode() in data for data in files)


def test_an_index_with_a_password_leaves_it_in_no_image(
    registry: str, small: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    # The public index takes any login, so the build goes through it for real.
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"https://somebody:{SECRET}@pypi.org/simple")
    assert SECRET in context.index_environment()
    made_of, engine = small(), DockerEngineHook()
    before = {image["Id"] for image in engine.client.images(all=True)}
    pushed = ensure_in_registry(made_of, connect(monkeypatch, registry), engine)
    tagged = f"{pushed['repository']}:{pushed['tag']}"
    for image in [tagged, *({image["Id"] for image in engine.client.images(all=True)} - before)]:
        with suppress(Exception):  # another test's build may remove its own meanwhile
            assert SECRET not in json.dumps(engine.client.history(image))
    files = saved(engine, tagged)
    assert not any(SECRET.encode() in data or b"index.env" in data for data in files)
    assert SECRET not in caplog.text


def test_the_same_contents_give_the_same_layers(small: Make, tmp_path: Path) -> None:
    made_of, engine, layers = small(), DockerEngineHook(), []
    for number in range(2):
        file = tmp_path / f"{number}.tar"
        with file.open("wb") as target:
            context.write_context(target, made_of.lock(), made_of.app)
        tag = f"{made_of.repository}:{number}"
        with file.open("rb") as source:
            stream = engine.client.build(
                fileobj=source, custom_context=True, tag=tag, nocache=True, buildargs={"BASE_IMAGE": BASE}, rm=True,
                labels=made_of.labels, decode=True,
            )  # fmt: skip
            assert [item["error"] for item in stream if "error" in item] == []
        layers.append(engine.client.inspect_image(tag)["RootFS"]["Layers"])
    assert (tmp_path / "0.tar").read_bytes() == (tmp_path / "1.tar").read_bytes()
    assert layers[0] == layers[1]


def test_a_build_that_fails_says_why(registry: str, small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made_of = small()
    made_of = Ingredients(**{**vars(made_of), "lock": lambda: "no-such-package-of-slipway==1.0\n"})
    with pytest.raises(UserError, match=r"(?s)cannot be built .*no-such-package-of-slipway"):
        ensure_in_registry(made_of, connect(monkeypatch, registry), DockerEngineHook())


def test_an_engine_and_a_registry_that_are_away_pass(
    registry: str, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:9")
    with pytest.raises(Unavailable, match=r"No Docker Engine answers at tcp://127.0.0.1:9 .* 'docker_default' names"):
        ensure_in_registry(small(), connect(monkeypatch, registry), DockerEngineHook())
    with pytest.raises(Unavailable, match=r"registry does not answer at http://127.0.0.1:9"):
        ensure_in_registry(small(), connect(monkeypatch, "127.0.0.1:9"), DockerEngineHook())


def test_a_full_registry_and_one_that_drops_mid_push_pass_and_the_next_try_succeeds(
    tmp_path: Path, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine itself tries five times before it gives up, so both wait at the same time."""
    with (
        running_registry(tmp_path / "full", limit_bytes=1 << 20) as full,
        running_registry(tmp_path / "well") as well,
        cutting_proxy(well, after=1 << 20) as (cut, heal),
    ):
        names = [connect(monkeypatch, full, "full"), connect(monkeypatch, cut, "cut")]
        made_of = [small(), small()]

        def push(number: int) -> Exception:
            with pytest.raises(Unavailable) as caught:
                ensure_in_registry(made_of[number], names[number], DockerEngineHook())
            return caught.value

        with ThreadPoolExecutor(2) as pool:
            failures = [str(failure) for failure in pool.map(push, range(2))]
        assert all(re.match(r"Image 127\.0\.0\.1:\S+ cannot be pushed \(", failure) for failure in failures)
        heal()
        assert ensure_in_registry(made_of[1], names[1], DockerEngineHook())["image"].startswith(cut)


def test_a_base_that_cannot_be_had_is_named_with_what_to_do(
    registry: str, small: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = connect(monkeypatch, registry)
    for base, kind in ((f"{registry}/no/such:base", UserError), ("127.0.0.1:9/no/such:base", Unavailable)):
        with pytest.raises(kind, match=rf"Image {base} cannot be pulled.*\[slipway\] base_image\.$"):
            ensure_in_registry(replace(small(), base_image=base), name, DockerEngineHook())


def listening_at(digits: str) -> socket.socket:
    """A listening socket whose port begins with these digits, which are in each message of the engine then."""
    for port in range(int(f"{digits}00"), int(f"{digits}99") + 1):
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", port))
    raise RuntimeError(f"All ports that begin with {digits} are taken.")


@contextmanager
def cutting_proxy(target: str, *, after: int) -> Iterator[tuple[str, Callable[[], None]]]:
    """A proxy that resets each connection once so many bytes went through, until it is healed."""
    healed = threading.Event()
    host, _, port = target.partition(":")
    listener = listening_at("401")

    def pump(source: socket.socket, sink: socket.socket) -> None:
        passed = 0
        with suppress(OSError):
            while data := source.recv(65536):
                passed += len(data)
                if passed > after and not healed.is_set():
                    break
                sink.sendall(data)
        for side in (source, sink):
            with suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection((host, int(port)))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"127.0.0.1:{listener.getsockname()[1]}", healed.set
    finally:
        listener.close()
