"""`zip_bundle.py`: the same bytes for the same files, the right files only, one sentence for what is no bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from tests.samples.bundles import NAMES, ROOT

SCRIPT = ROOT / "zip_bundle.py"


def zip_bundle(folder: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the script as a user would, with nothing but Python's standard library."""
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(folder), str(out)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    copy = tmp_path / "mine"
    shutil.copytree(ROOT / "skeleton", copy)
    return copy


@pytest.mark.parametrize("name", NAMES)
def test_every_sample_bundle_is_zipped_in_the_required_layout(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out.zip"
    assert zip_bundle(ROOT / name, out).returncode == 0
    with zipfile.ZipFile(out) as archive:
        names = archive.namelist()
        assert archive.testzip() is None
    assert names == sorted(names)
    assert {"model_bundle/requirements.txt", "model_bundle/code/custom_preprocess.py"} <= set(names)
    assert any(member.startswith("model_bundle/artifacts/") for member in names)
    assert ("model_bundle/sample_input.json" in names) == (name != "wine-no-sample")


def test_times_and_permissions_make_no_difference(bundle: Path, tmp_path: Path) -> None:
    zip_bundle(bundle, tmp_path / "first.zip")
    for path in bundle.rglob("*"):
        os.utime(path, (time.time(), 1_000_000_000))
        path.chmod(0o700)
    zip_bundle(bundle / "model_bundle", tmp_path / "second.zip")
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()


def test_what_tools_leave_behind_stays_out(bundle: Path, tmp_path: Path) -> None:
    zip_bundle(bundle, tmp_path / "clean.zip")
    inside = bundle / "model_bundle"
    (inside / "code" / "__pycache__").mkdir()
    (inside / "code" / "__pycache__" / "custom_preprocess.pyc").write_bytes(b"x")
    (inside / "artifacts" / ".DS_Store").write_bytes(b"x")
    (inside / "notes.md").write_text("not part of a bundle")
    zip_bundle(bundle, tmp_path / "dirty.zip")
    assert (tmp_path / "clean.zip").read_bytes() == (tmp_path / "dirty.zip").read_bytes()


@pytest.mark.parametrize("missing", ["requirements.txt", "artifacts", "code/custom_preprocess.py"])
def test_a_folder_that_is_no_bundle_is_refused(missing: str, bundle: Path, tmp_path: Path) -> None:
    path = bundle / "model_bundle" / missing
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    done = zip_bundle(bundle, tmp_path / "out.zip")
    assert done.returncode == 1
    assert f"has no {missing}" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.glob("*out.zip*"))


def test_a_symbolic_link_is_refused(bundle: Path, tmp_path: Path) -> None:
    (bundle / "model_bundle" / "artifacts" / "link").symlink_to("/etc/hostname")
    done = zip_bundle(bundle, tmp_path / "out.zip")
    assert done.returncode == 1
    assert "symbolic link" in done.stderr


def test_wrong_use_is_told(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("Use: ")
