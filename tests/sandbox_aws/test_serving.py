"""Scoring servers as a fake cloud starts and ends them."""

from __future__ import annotations

import time
from pathlib import Path

import httpx
import psutil
import pytest

from slipway_sandbox import serving
from tests.model_host.hosts import ModelMaker

BODY = {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}


def wait_ready(server: serving.Server) -> None:
    deadline = time.monotonic() + 60
    while True:
        assert server.exit_status() is None, server.logs()
        assert time.monotonic() < deadline, server.logs()
        try:
            if httpx.get(f"{server.url}/ping").is_success:
                return
        except httpx.TransportError:
            time.sleep(0.05)


def processes(folder: Path) -> list[int]:
    return [p.pid for p in psutil.process_iter(["cwd"]) if p.info["cwd"] == str(folder)]


def test_a_process_serves_the_model_and_is_gone_when_stopped(
    models: ModelMaker, environments: Path, tmp_path: Path
) -> None:
    server = serving.start(models.make("one").folder, folder=tmp_path, environments=environments)
    wait_ready(server)
    assert httpx.post(f"{server.url}/invocations", json=BODY).json()["predictions"] == ["one", "one"]
    assert any("listening" in line.lower() or "ready" in line.lower() for line in server.logs()), server.logs()
    assert processes(tmp_path)
    server.stop()
    assert not processes(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_load_ends_with_its_reason_in_the_log(
    models: ModelMaker, environments: Path, tmp_path: Path
) -> None:
    server = serving.start(models.make("broken").folder, folder=tmp_path, environments=environments)
    deadline = time.monotonic() + 60
    while server.exit_status() is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert server.exit_status() == 3
    assert "the weights are from another planet" in "\n".join(server.logs())
    server.stop()


def test_what_a_killed_cloud_left_behind_is_found_by_its_folder(
    models: ModelMaker, environments: Path, tmp_path: Path
) -> None:
    wait_ready(serving.start(models.make("two").folder, folder=tmp_path, environments=environments))
    assert serving.end_leftovers(tmp_path) == 1
    assert not processes(tmp_path)
    assert serving.end_leftovers(tmp_path) == 0


def test_a_model_without_a_lock_is_refused(environments: Path, tmp_path: Path) -> None:
    with pytest.raises(serving.ServingError, match=r"slipway/requirements\.lock"):
        serving.start(tmp_path, folder=tmp_path / "run", environments=environments)
