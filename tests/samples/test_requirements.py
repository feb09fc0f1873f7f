"""The bundles' requirements: they fit their pickles, and resolve on every supported Python."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.samples.bundles import NAMES, ROOT

SCORING = ROOT.parent / "scoring" / "requirements.txt"
PICKLES = sorted(ROOT.glob("*/model_bundle/artifacts/*.pkl"))


def requirements(bundle: Path) -> dict[str, Requirement]:
    lines = (bundle / "requirements.txt").read_text().splitlines()
    found = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {requirement.name: requirement for requirement in found}


@pytest.mark.parametrize("path", PICKLES, ids=lambda path: path.stem)
def test_a_pickle_is_read_only_by_the_scikit_learn_that_wrote_it(path: Path) -> None:
    written_by = pickle.loads(path.read_bytes()).__getstate__()["_sklearn_version"]
    asked_for = requirements(path.parents[1])["scikit-learn"].specifier
    major, minor, *_ = (int(part) for part in written_by.split("."))
    assert asked_for.contains(written_by)
    assert not asked_for.contains(f"{major}.{minor + 1}.0")
    assert not asked_for.contains(f"{major}.{minor - 1}.9")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("name", NAMES)
def test_requirements_resolve_to_wheels_with_the_scoring_server_s(name: str, python: str) -> None:
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--only-binary", ":all:"]
    command += ["--python-version", python, "--python-platform", "x86_64-manylinux_2_28", str(SCORING)]
    command += [str(ROOT / name / "model_bundle" / "requirements.txt")]
    # That Python need not be here, and is not to be fetched: only wheels are looked at.
    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "nvidia" not in done.stdout
