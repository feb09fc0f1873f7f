"""The smaller parts: settings, logs, backoff, state on disk."""

from __future__ import annotations

import asyncio
from collections import deque
from pathlib import Path

import pytest

from slipway_model_host.config import Config, read_config
from slipway_model_host.deployment import Host
from slipway_model_host.endpoints import Endpoints
from slipway_model_host.fetch import Models
from slipway_model_host.frontdoor.routing import Routes
from slipway_model_host.logs import TAIL_LINES, LogFile, last_words
from slipway_model_host.process import Guard
from slipway_model_host.records import DeploymentRecord, EndpointRecord, Spec
from slipway_model_host.store import Store, admin_token, write_atomic
from slipway_model_host.supervisor import Backoff
from tests.model_host.hosts import REPO
from tests.model_host.test_admin import SPEC


def test_flags_win_over_the_environment_and_that_over_defaults(tmp_path: Path) -> None:
    environ = {"MODEL_HOST_HOME": str(tmp_path), "MODEL_HOST_PORT": "1234", "MODEL_HOST_ADMIN_PORT": "", "OTHER": "x"}
    config = read_config(["--port", "4321"], environ | {"MLFLOW_TRACKING_URI": "http://mlflow"})
    assert (config.home, config.port, config.admin_port) == (tmp_path, 4321, 8701)
    assert config.tracking_uri == "http://mlflow"
    assert read_config([], environ).port == 1234


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "MODEL_HOST_HOME"),
        (["--home", "x", "--port", "70000"], "MODEL_HOST_PORT"),
        (["--home", "x", "--lease-seconds", "0"], "--lease-seconds"),
        (["--home", "x", "--public-url", "ftp://x"], "MODEL_HOST_PUBLIC_URL"),
    ],
)
def test_a_setting_that_breaks_a_rule_is_named(arguments: list[str], words: str) -> None:
    with pytest.raises(SystemExit, match=words):
        read_config(arguments, {})


def test_the_token_is_not_a_flag_and_never_short() -> None:
    with pytest.raises(SystemExit):
        read_config(["--home", "x", "--admin-token", "x" * 20], {})
    with pytest.raises(SystemExit, match="MODEL_HOST_ADMIN_TOKEN"):
        read_config(["--home", "x"], {"MODEL_HOST_ADMIN_TOKEN": "short"})


def test_a_token_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    config = Config(home=tmp_path)
    token = admin_token(config)
    assert len(token) >= 32
    assert admin_token(config) == token
    config.token_file.chmod(0o644)
    with pytest.raises(SystemExit, match="chmod 600"):
        admin_token(config)


def test_the_readme_has_every_setting() -> None:
    readme = (REPO / "include" / "model_host" / "README.md").read_text()
    for name in Config.model_fields:
        assert f"| `{name}` |" in readme


def test_state_survives_and_foreign_state_is_refused(tmp_path: Path) -> None:
    store = Store(tmp_path)
    store.open()
    record = EndpointRecord(name="e", live="v1", token="t")
    record.deployments["v1"] = DeploymentRecord(id="v1", spec=Spec.model_validate(SPEC), state="live")
    asyncio.run(store.save(record))
    (tmp_path / "endpoints" / ".e.json.1234").write_text("half writ")
    assert store.load() == [record]
    assert [path.name for path in (tmp_path / "endpoints").iterdir()] == ["e.json"]
    (tmp_path / "endpoints" / "f.json").write_text("{")
    with pytest.raises(SystemExit, match=r"f\.json"):
        store.load()
    store.close()


def test_writing_is_all_or_nothing(tmp_path: Path) -> None:
    write_atomic(tmp_path / "x", "old")
    (tmp_path / "x").chmod(0o600)
    with pytest.raises(UnicodeEncodeError):
        write_atomic(tmp_path / "x", "\udc80")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["old"]


def test_sockets_fit_however_long_the_home_is(tmp_path: Path) -> None:
    for home in (tmp_path / "h", tmp_path / ("long" * 30)):
        home.mkdir()
        folder = Store(home).sockets()
        assert len(str(folder / f"{'0' * 16}.{10**9}.sock")) < 108
        assert folder.stat().st_mode & 0o777 == 0o700
        assert list(folder.iterdir()) == []


def test_logs_are_rotated_and_bounded(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "server.log", 1000, 2)
    for number in range(1000):
        log.write(b"line %d\n" % number)
    log.write(b"x" * 100_000)
    log.close()
    files = sorted(path.name for path in tmp_path.iterdir())
    assert files == ["server.log", "server.log.1", "server.log.2"]
    assert sum((tmp_path / name).stat().st_size for name in files) < 110_000
    assert len(log.tail) == TAIL_LINES
    assert all(len(line) <= 4096 for line in log.tail)


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["Traceback (most recent call last):", "ValueError: no such thing", "stopping"], "ValueError: no such thing"),
        (["a.b.OddError", "  at line 3"], "a.b.OddError"),
        (['{"level": "error", "message": "it is broken"}'], "it is broken"),
        (["[model host] starting", "hello"], "hello"),
        (["[model host] starting"], "it wrote nothing to its log"),
        (['{"half": '], '{"half":'),
    ],
)
def test_last_words(lines: list[str], words: str) -> None:
    assert last_words(deque(lines)) == words


def test_backoff_doubles_to_its_cap_and_forgets_after_a_stable_run() -> None:
    backoff = Backoff(1, 8, 60)
    pauses = [backoff.pause(0) for _ in range(6)]
    for pause, expected in zip(pauses, (1, 2, 4, 8, 8, 8), strict=True):
        assert expected * 0.75 <= pause <= expected * 1.25
    assert backoff.pause(61) <= 1.25


def test_a_change_that_cannot_be_saved_is_undone(tmp_path: Path) -> None:
    """A full disk, made by a folder where the file would be: what is in memory stays what is on disk."""
    store = Store(tmp_path)
    store.open()
    (tmp_path / "endpoints" / "e.json").mkdir()
    (tmp_path / "endpoints" / "e.json" / "in the way").touch()
    routes = Routes()
    guard = Guard()
    config = Config(home=tmp_path)
    host = Host(config, store, Models(config, store, guard), guard, tmp_path, "http://x", asyncio.Semaphore())

    async def work() -> None:
        endpoints = Endpoints(host, routes)
        with pytest.raises(OSError, match="directory"):
            await endpoints.put("e", "v1", Spec.model_validate(SPEC))
        assert endpoints.views() == []
        assert not routes

    asyncio.run(work())
    store.close()
