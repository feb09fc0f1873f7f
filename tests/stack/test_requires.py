"""A test whose needs are not met is skipped and told of at the end; in CI it fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
TESTS = """
import pytest

@pytest.mark.requires("curl")
def test_one(): pass

@pytest.mark.requires("curl")
def test_two(): pass

def test_three(): pass
"""


def run(folder: Path, tests: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    shutil.copy(CONFTEST, folder / "conftest.py")
    (folder / "test_it.py").write_text(tests)
    # A PATH with nothing on it: whatever is required is missing.
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "CI"))}
    environment = {**kept, "PATH": "/nowhere", **variables}
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--rootdir", str(folder), *arguments, "."]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("arguments", [(), ("-n", "2")], ids=["alone", "parallel"])
def test_what_is_missing_is_named_with_its_remedy(arguments: tuple[str, ...], tmp_path: Path) -> None:
    done = run(tmp_path, TESTS, *arguments)
    assert done.returncode == 0
    assert "2 skipped, needs curl: apt-get install curl" in done.stdout
    assert "1 passed, 2 skipped" in done.stdout.splitlines()[-1]


def test_in_ci_a_skip_is_a_failure(tmp_path: Path) -> None:
    done = run(tmp_path, TESTS, CI="true")
    assert done.returncode == 1
    assert "1 passed, 2 errors" in done.stdout.splitlines()[-1]
    assert "skipped, which CI does not allow: needs curl: apt-get install curl" in done.stdout


def test_in_ci_any_other_skip_is_a_failure_too(tmp_path: Path) -> None:
    done = run(tmp_path, "import pytest\n\ndef test_it():\n    pytest.skip('not today')\n", CI="true")
    assert done.returncode == 1
    assert "skipped, which CI does not allow: not today" in done.stdout


def test_an_unknown_need_is_an_error(tmp_path: Path) -> None:
    done = run(tmp_path, "import pytest\n\n@pytest.mark.requires('a unicorn')\ndef test_it(): pass\n")
    assert done.returncode == 1
    assert "requires 'a unicorn', which tests/conftest.py does not know" in done.stdout
