"""What nobody uses is removed, and nothing else."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from slipway_model_host.collect import collect_environments, collect_folders
from tests.model_host.hosts import REPO, HostProcess, ModelMaker, until

DAY = 86400.0
OLD, USED, YOUNG, MAKING, HALF = ("a" * 64, "b" * 64, "c" * 64, "d" * 64, "e" * 64)


def age(path: Path, seconds: float) -> None:
    """Make a path look untouched for so long."""
    then = time.time() - seconds
    os.utime(path, (then, then))


def environment(root: Path, digest: str, seconds: float, *, whole: bool = True) -> Path:
    """An environment as `slipway_scoring environment` leaves it."""
    folder = root / digest
    (folder / "bin").mkdir(parents=True)
    if whole:
        (folder / ".slipway-complete").touch()
        age(folder / ".slipway-complete", seconds)
    age(folder, seconds)
    return folder


def test_environments(tmp_path: Path) -> None:
    for digest, days in {OLD: 9, USED: 9, YOUNG: 1, MAKING: 9}.items():
        environment(tmp_path, digest, days * DAY)
    environment(tmp_path, HALF, 9 * DAY, whole=False)
    (tmp_path / "something-else").mkdir()
    age(tmp_path / "something-else", 99 * DAY)
    (tmp_path / f".trash-{OLD}.1").mkdir()
    with (tmp_path / f".{MAKING}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert set(collect_environments(tmp_path, {USED}, 7 * DAY)) == {OLD, HALF}
    assert {path.name for path in tmp_path.iterdir() if path.is_dir()} == {USED, YOUNG, MAKING, "something-else"}
    marker = tmp_path / USED / ".slipway-complete"
    assert time.time() - marker.stat().st_mtime < 60, "others who share the folder see that it is in use"


def test_a_removed_environment_is_made_again_by_the_next_who_asks(tmp_path: Path, models: ModelMaker) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("# python: 3.11\n# platform: linux-x86_64\n")
    command = [
        sys.executable,
        "-m",
        "slipway_scoring",
        "environment",
        "--lock",
        str(lock),
        "--root",
        str(tmp_path / "root"),
    ]

    def make() -> Path:
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(REPO / "include/scoring")},
            check=True, capture_output=True, text=True,
        )  # fmt: skip
        return Path(done.stdout.splitlines()[-1])

    folder = make()
    age(folder / ".slipway-complete", 9 * DAY)
    assert make() == folder
    assert collect_environments(tmp_path / "root", set(), 7 * DAY) == [], "asking for it made it young again"
    age(folder / ".slipway-complete", 9 * DAY)
    assert collect_environments(tmp_path / "root", set(), 7 * DAY) == [folder.name]
    assert make() == folder
    assert (folder / "bin" / "python").exists()


def test_folders(tmp_path: Path) -> None:
    for name, days in {"old": 9, "used": 9, "young": 1, ".half-fetched": 9, ".fetching": 0}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").touch()
        age(tmp_path / name, days * DAY)
    assert collect_folders(tmp_path, {"used"}, 7 * DAY) == ["old"]
    assert {path.name for path in tmp_path.iterdir()} == {"used", "young", ".fetching"}


def test_a_host_collects_what_its_endpoints_no_longer_need(
    make_host: Callable[..., HostProcess], models: ModelMaker
) -> None:
    host = make_host(collect_after_seconds=2, collect_interval_seconds=0.5)
    host.deploy("e", "v1", models.make("1"))
    host.deploy("f", "v1", models.make("2"))

    def folders(name: str) -> set[str]:
        return {path.name for path in (host.home / name).iterdir()}

    assert len(folders("models")) == 2
    host.admin("DELETE", "/v1/endpoints/f")
    until(lambda: len(folders("models")) == len(folders("work")) == len(folders("logs")) == 1, 15)
    assert (host.environments / models.digest / ".slipway-complete").exists()
    assert host.score("e").json() == {"predictions": ["1"]}
