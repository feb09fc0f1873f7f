"""The store: a bundle is there whole or not at all, whoever dies or comes at the same time."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from slipway.bundles import intake
from slipway.bundles.limits import Site
from slipway.bundles.staging import Staging, collect
from slipway.bundles.store import BundleStore
from slipway.errors import NotFound, SlipwayError, UserError
from tests.bundles.conftest import files_below, import_bundle
from tests.bundles.corpus import GOOD
from tests.bundles.zips import plain_zip

Upload = Callable[[bytes], str]
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def remote(site: Site) -> Iterator[Site]:
    """A site whose store is not on a local disk: objects in memory, through Airflow's ObjectStoragePath."""
    from airflow.sdk.io import attach

    memory = fsspec.filesystem("memory")
    attach(protocol="memory", fs=memory)
    memory.store.clear()
    yield replace(site, store="memory://bucket/bundles")
    memory.store.clear()


def other_bundle(text: bytes = b"7.5") -> bytes:
    return plain_zip({**GOOD, "model_bundle/artifacts/scale.txt": text})


def test_known_bundle_changes_nothing(site: Site, upload: Upload) -> None:
    uri = upload(plain_zip(GOOD))
    first = import_bundle(uri, site, name="doubler", run_id="one")
    root = Path(site.store.removeprefix("file://"))
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}
    second = import_bundle(uri, site, name="doubler", run_id="two")
    after = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in root.rglob("*") if path.is_file()}
    assert (first["created"], second["created"]) == (True, False)
    assert {**first, "created": False} == second
    assert before == after
    third = import_bundle(uri, site, name="twice", run_id="three")
    assert third["digest"] == first["digest"]
    assert BundleStore(site.store).names() == ["doubler", "twice"]


def test_layout_is_that_of_the_contract(site: Site, upload: Upload) -> None:
    stored = import_bundle(upload(plain_zip(GOOD)), site, name="doubler")
    digest = stored["digest"]
    assert files_below(site) == sorted(
        [
            *(f"{digest}/files/{name.removeprefix('model_bundle/')}" for name in GOOD),
            f"{digest}/manifest.json",
            f"{digest}/requirements.lock",
            f"names/doubler/{digest}.json",
        ]
    )
    record = json.loads((Path(site.store.removeprefix("file://")) / "names" / "doubler" / f"{digest}.json").read_text())
    assert set(record) == {"imported_at", "source_uri", "description"}


def test_bundles_are_found_by_name_and_digest(site: Site, upload: Upload) -> None:
    old = import_bundle(upload(plain_zip(GOOD)), site, name="doubler", run_id="one")["digest"]
    new = import_bundle(upload(other_bundle()), site, name="doubler", run_id="two")["digest"]
    assert intake.find("doubler", site=site) == new
    assert intake.find("doubler", str(old)[:12], site=site) == old
    assert list(BundleStore(site.store).imports("doubler")) == [old, new]
    assert BundleStore(site.store).digests() == sorted([old, new])
    with pytest.raises(NotFound, match="no bundle named 'unknown'"):
        intake.find("unknown", site=site)
    with pytest.raises(NotFound, match="no bundle 'ffffffffffff'"):
        intake.find("doubler", "f" * 12, site=site)
    with pytest.raises(NotFound), intake.materialise("f" * 64, site=site):
        pass


def test_every_step_may_run_again(site: Site, upload: Upload) -> None:
    uri = upload(plain_zip(GOOD))
    first = intake.check(uri, name="doubler", run_id="run", site=site)
    checked = intake.check(uri, name="doubler", run_id="run", site=site)
    assert {**first, "staging": None} == {**checked, "staging": None}
    locked = intake.lock(checked, site=site)
    assert intake.lock(checked, site=site) == locked
    probed = [intake.probe(checked, locked, site=site) for _ in range(2)][-1]
    stored = intake.commit(checked, locked, probed, site=site)
    assert stored["created"]
    assert intake.commit(checked, locked, probed, site=site) == {**stored, "created": False}
    assert intake.lock(checked, site=site) == locked
    assert intake.probe(checked, locked, site=site) == probed
    intake.discard(checked, site=site)
    assert intake.find("doubler", site=site) == stored["digest"]
    assert not any(name.startswith(".staging") for name in files_below(site))


def test_results_are_json(site: Site, upload: Upload) -> None:
    checked = intake.check(upload(plain_zip(GOOD)), name="doubler", run_id="run", site=site)
    assert json.loads(json.dumps(checked)) == checked
    intake.discard(checked, site=site)
    assert files_below(site) == []


def test_step_without_its_staging_area_says_so(site: Site, upload: Upload) -> None:
    checked = intake.check(upload(plain_zip(GOOD)), name="doubler", run_id="run", site=site)
    intake.discard(checked, site=site)
    with pytest.raises(SlipwayError, match="staging area in the bundle store is gone"):
        intake.lock(checked, site=site)


def test_store_in_an_object_store(remote: Site, upload: Upload) -> None:
    uri = upload(plain_zip(GOOD))
    stored = import_bundle(uri, remote, name="doubler", run_id="one")
    assert import_bundle(uri, remote, name="doubler", run_id="two") == {**stored, "created": False}
    digest = str(stored["digest"])
    keys = sorted(key.removeprefix("/bucket/bundles/") for key in fsspec.filesystem("memory").store)
    assert keys == sorted(
        [
            *(f"{digest}/files/{name.removeprefix('model_bundle/')}" for name in GOOD),
            f"{digest}/manifest.json",
            f"{digest}/requirements.lock",
            f"names/doubler/{digest}.json",
        ]
    )
    assert intake.find("doubler", site=remote) == digest
    assert BundleStore(remote.store).digests() == [digest]
    with intake.materialise(digest, site=remote) as bundle:
        assert (bundle.files / "artifacts" / "scale.txt").read_bytes() == b"2.5"
        copy = bundle.files
    assert not copy.exists()


def test_refused_bundle_leaves_nothing_in_an_object_store(remote: Site, upload: Upload) -> None:
    with pytest.raises(UserError):
        import_bundle(
            upload(plain_zip({**GOOD, "model_bundle/code/custom_preprocess.py": b"x = ("})), remote, "doubler"
        )
    with pytest.raises(UserError):
        import_bundle(upload(plain_zip({**GOOD, "model_bundle/requirements.txt": b"numpy==999"})), remote, "doubler")
    assert list(fsspec.filesystem("memory").store) == []


def test_archive_is_read_from_an_object_store(remote: Site, upload: Upload) -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/inbox/doubler.zip", plain_zip(GOOD))
    assert intake.check("memory://inbox/doubler.zip", run_id="run", site=remote)["name"] == "doubler"
    small = replace(remote, limits=replace(remote.limits, archive_bytes=100))
    with pytest.raises(UserError, match="is larger than 100 bytes"):
        intake.check("memory://inbox/doubler.zip", run_id="run", site=small)
    with pytest.raises(UserError, match=r"There is no file at 'memory://inbox/none\.zip'"):
        intake.check("memory://inbox/none.zip", run_id="run", site=remote)


def test_imports_of_one_bundle_at_once_all_succeed(site: Site, upload: Upload) -> None:
    uri = upload(plain_zip(GOOD))
    import_bundle(upload(other_bundle()), site, name="warm-up", run_id="warm-up")
    upload(plain_zip(GOOD))

    def steps(run: int) -> tuple[dict[str, Any], ...]:
        checked = intake.check(uri, name="doubler", run_id=f"run-{run}", site=site)
        locked = intake.lock(checked, site=site)
        return checked, locked, intake.probe(checked, locked, site=site)

    with ThreadPoolExecutor(4) as pool:
        ready = list(pool.map(steps, range(4)))
        barrier = threading.Barrier(4)

        def commit(step: tuple[dict[str, Any], ...]) -> bool:
            barrier.wait()
            return bool(intake.commit(*step, site=site)["created"])

        assert sorted(pool.map(commit, ready)) == [False, False, False, True]
    assert not any(name.startswith(".staging") for name in files_below(site))


def test_half_of_a_bundle_is_replaced(site: Site, upload: Upload) -> None:
    checked = intake.check(upload(plain_zip(GOOD)), name="doubler", run_id="run", site=site)
    half = Path(site.store.removeprefix("file://")) / checked["digest"] / "files"
    half.mkdir(parents=True)
    (half / "stray").write_text("x")
    locked = intake.lock(checked, site=site)
    stored = intake.commit(checked, locked, intake.probe(checked, locked, site=site), site=site)
    assert stored["created"]
    assert not (half / "stray").exists()


_VICTIM = """
import sys
from dataclasses import replace
from pathlib import Path
from slipway.bundles import intake
from slipway.bundles.limits import Limits, Site
site = Site(store=sys.argv[2], environments_dir=Path(sys.argv[3]), scoring_home=Path(sys.argv[4]), python=sys.argv[5])
intake.check(sys.argv[1], name="victim", run_id="killed", site=site)
print("checked", flush=True)
"""


@pytest.fixture(scope="module")
def large_archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that takes a while to unpack."""
    archive = tmp_path_factory.mktemp("archives") / "large.zip"
    random = os.urandom(8 << 20)
    with zipfile.ZipFile(archive, "w") as out:
        for number in range(30):
            out.writestr(f"model_bundle/artifacts/{number}.bin", random)
        for name, data in GOOD.items():
            out.writestr(name, data)
    return archive


@pytest.mark.parametrize("unpacked", [1, 7, 25])
def test_kill_in_the_middle_of_an_import_leaves_a_clean_store(
    unpacked: int, large_archive: Path, site: Site, tmp_path: Path
) -> None:
    archive = large_archive
    victim = subprocess.Popen(
        [sys.executable, "-c", _VICTIM, archive, site.store, site.environments_dir, site.scoring_home, site.python],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT / "plugins")},
    )  # fmt: skip
    assert victim.stdout is not None
    while sum(name.endswith(".bin") for name in files_below(site)) < unpacked:
        assert victim.poll() is None
    victim.send_signal(signal.SIGKILL)
    assert victim.stdout.read() == "", "the import was over before it could be killed"
    victim.wait()
    store = BundleStore(site.store)
    assert (store.digests(), store.names()) == ([], [])
    small = tmp_path / "small.zip"
    small.write_bytes(plain_zip(GOOD))
    other = intake.check(small.as_uri(), name="doubler", run_id="other", site=site)
    # Another import has seen that the killed one is dead, and has removed what it left.
    assert store.folder.names(".staging") == sorted([other["staging"], f"{other['staging']}.json"])
    intake.discard(other, site=site)
    again = intake.check(archive.as_uri(), name="victim", run_id="killed", site=site)
    assert again["files"] == len(GOOD) + 30
    intake.discard(again, site=site)
    assert files_below(site) == []


def test_abandoned_imports_are_collected_by_age(site: Site, upload: Upload) -> None:
    store = BundleStore(site.store)
    checked = intake.check(upload(plain_zip(GOOD)), name="doubler", run_id="abandoned", site=site)
    assert collect(store, 3600) == []
    Staging(store, checked["staging"]).touch()
    assert collect(store, 3600) == []
    assert collect(store, -1) == [checked["staging"]]
    assert files_below(site) == []


def test_damaged_store_is_seen(site: Site, upload: Upload) -> None:
    stored = import_bundle(upload(plain_zip(GOOD)), site, name="doubler")
    lock = Path(site.store.removeprefix("file://")) / str(stored["digest"]) / "requirements.lock"
    lock.write_text("evil==1")
    with pytest.raises(SlipwayError, match="is damaged"), intake.materialise(str(stored["digest"]), site=site):
        pass


def test_disk_path_with_odd_characters(site: Site, upload: Upload, tmp_path: Path) -> None:
    folder = tmp_path / "a store 100% ü"
    folder.mkdir()
    for uri in (folder.as_uri(), str(folder), f"file://{folder}"):
        odd = replace(site, store=uri)
        checked = intake.check(upload(plain_zip(GOOD)), name="doubler", run_id="run", site=odd)
        assert list((folder / ".staging").iterdir())
        intake.discard(checked, site=odd)
        assert not list((folder / ".staging").iterdir())
