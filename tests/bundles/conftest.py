"""One environment for all probes, and a fresh store for each test."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slipway.bundles import intake
from slipway.bundles.limits import Limits, Site
from tests.bundles.corpus import CANARY

ROOT = Path(__file__).resolve().parents[2]


def import_bundle(uri: str, site: Site, name: str | None = None, run_id: str = "run") -> dict[str, Any]:
    """Do all steps, as the DAG does."""
    checked = intake.check(uri, name=name, run_id=run_id, site=site)
    try:
        locked = intake.lock(checked, site=site)
        return intake.commit(checked, locked, intake.probe(checked, locked, site=site), site=site)
    except BaseException:
        intake.discard(checked, site=site)
        raise


def files_below(site: Site) -> list[str]:
    """All files of the store."""
    root = Path(site.store.removeprefix("file://"))
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the environments of all tests are made, once each."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def site(tmp_path: Path, environments: Path) -> Site:
    """A site with a store of its own, the default limits, and less memory for probes."""
    return Site(
        store=(tmp_path / "store").as_uri(),
        environments_dir=environments,
        scoring_home=ROOT / "include" / "scoring",
        python=getattr(sys, "_base_executable", sys.executable),
        limits=replace(Limits(), probe_memory_bytes=1 << 30),
    )


@pytest.fixture
def upload(tmp_path: Path) -> Callable[[bytes], str]:
    """Write an archive to a file and return its URI."""

    def write(data: bytes) -> str:
        file = tmp_path / "uploaded.zip"
        file.write_bytes(data)
        return file.as_uri()

    return write


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file that appears if code of a bundle runs in this process or in one that it starts as it is."""
    file = tmp_path / "canary"
    monkeypatch.setenv(CANARY, str(file))
    yield file
    assert not file.exists(), "code of the bundle ran outside of its sandbox"
    assert "custom_preprocess" not in sys.modules
