"""The environment's maker, for real, on a checkout whose requirements are small."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path("include/stack/make_environment.py")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / SCRIPT.parent).mkdir(parents=True)
    shutil.copy(ROOT / SCRIPT, tmp_path / SCRIPT)
    [uv] = re.findall(r"^uv==\S+", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    (tmp_path / "requirements.txt").write_text(f"{uv}\nidna==3.10\n")
    (tmp_path / "requirements-dev.txt").write_text("iniconfig==2.1.0\n")
    return tmp_path


def make(checkout: Path, *files: str, path: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": path} if path is not None else None
    command = [sys.executable, str(checkout / SCRIPT), *files]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def installed(checkout: Path) -> set[str]:
    listed = subprocess.run(
        [checkout / ".venv/bin/python", "-m", "uv", "pip", "freeze"], capture_output=True, text=True, check=True
    )
    return {line.partition("==")[0] for line in listed.stdout.splitlines()} - {"pip", "setuptools", "uv"}


def test_an_environment_that_is_another_checkout_s_is_left_alone(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs" / "kept").mkdir(parents=True)
    (checkout / ".venv").symlink_to(tmp_path / "theirs")
    refused = make(checkout, "requirements.txt")
    assert refused.returncode == 1
    assert "does not own: remove the link" in refused.stderr
    assert (tmp_path / "theirs" / "kept").exists()


def test_it_is_made_renewed_and_then_left_alone(checkout: Path) -> None:
    assert make(checkout, "requirements.txt").returncode == 0
    assert installed(checkout) == {"idna"}
    began = time.monotonic()
    again = make(checkout, "requirements.txt")
    assert time.monotonic() - began < 2
    assert (again.returncode, again.stdout) == (0, "")

    make(checkout, "requirements.txt", "requirements-dev.txt")
    assert installed(checkout) == {"idna", "iniconfig"}
    # What the tests need stays when the demo is made afterwards, and nothing has to be done for it.
    assert make(checkout, "requirements.txt").stdout == ""
    assert installed(checkout) == {"idna", "iniconfig"}

    file = checkout / "requirements.txt"
    file.write_text(file.read_text().replace("idna==3.10", "zipp==3.23.0"))
    make(checkout, "requirements.txt")
    assert installed(checkout) == {"zipp", "iniconfig"}


def test_an_environment_that_was_left_half_made_is_made_again(checkout: Path) -> None:
    broken = checkout / "requirements-dev.txt"
    broken.write_text("iniconfig==0.0.0.1\n")
    failed = make(checkout, "requirements.txt", "requirements-dev.txt")
    assert failed.returncode == 1
    assert failed.stderr.splitlines()[-1].startswith("slipway: the environment in ")
    broken.write_text("iniconfig==2.1.0\n")
    assert make(checkout, "requirements.txt").returncode == 0
    assert installed(checkout) == {"idna"}


def test_two_that_begin_at_once_make_one_environment(checkout: Path) -> None:
    command = [sys.executable, str(checkout / SCRIPT), "requirements.txt"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = sorted(process.communicate()[0] for process in both)
    assert [process.returncode for process in both] == [0, 0]
    assert said[0] == ""
    assert said[1].startswith("Making ")
    assert installed(checkout) == {"idna"}


def test_a_missing_git_is_told_in_one_sentence(checkout: Path) -> None:
    done = make(checkout, "requirements.txt", path="/nowhere")
    assert done.returncode == 1
    assert done.stderr == "slipway: git is not installed: install it (`apt-get install git`).\n"
    assert not (checkout / ".venv").exists()
