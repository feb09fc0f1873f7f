"""The breast-cancer sample as a registered version's directory, with its environment, made without an Airflow."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SCORING = ROOT / "include" / "scoring"
BUNDLE = ROOT / "include" / "model_bundles" / "breast-cancer" / "model_bundle"


def make_model(home: Path) -> dict[str, Any]:
    """Return the model as a plan names it; lock, environment and directory are made once in `home`."""
    uv = str(Path(sys.executable).parent / "uv")
    home.mkdir(parents=True, exist_ok=True)
    lock = home / "requirements.lock"
    if not lock.exists():
        wanted = (BUNDLE / "requirements.txt").read_text() + (SCORING / "requirements.txt").read_text()
        command = [uv, "pip", "compile", "-q", "--no-header", "--no-annotate", "--python-version", "3.11", "-"]
        resolved = subprocess.run(command, input=wanted, text=True, capture_output=True, check=True).stdout
        lock.write_text(f"# python: 3.11\n# platform: linux-x86_64\n{resolved}")
    variables = {**os.environ, "PYTHONPATH": str(SCORING), "SLIPWAY_UV": uv}
    command = [sys.executable, "-m", "slipway_scoring", "environment", "--lock", str(lock)]
    command += ["--root", str(home / "environments")]
    made = subprocess.run(command, env=variables, capture_output=True, text=True, check=True)
    environment = Path(made.stdout.strip().splitlines()[-1])
    probe = home / "probe.json"
    if not probe.exists():
        command = [str(environment / "bin/python"), "-m", "slipway_scoring", "probe", "--bundle", str(BUNDLE)]
        subprocess.run([*command, "--output", str(probe)], env=variables, check=True)
    found = json.loads(probe.read_text())
    directory = home / "model"
    if not directory.exists():
        _write(directory, found, lock)
    return {
        "label": "breast-cancer",
        "model": str(directory),
        "environment": str(environment),
        "code": [str(SCORING), str(ROOT / "include" / "spark")],
        "python": "3.11",
        "inputs": [[c["name"], c["type"], True] for c in json.loads(found["signature"]["inputs"])],
        "outputs": [[c["name"], c["type"]] for c in json.loads(found["signature"]["outputs"])],
    }


def _write(directory: Path, found: dict[str, Any], lock: Path) -> None:
    from slipway.domain import ModelManifest
    from slipway.model_files import write_model

    manifest = ModelManifest(
        bundle_digest="0" * 64,
        lock_digest=hashlib.sha256(lock.read_bytes()).hexdigest(),
        python="3.11",
        name="breast-cancer",
        rows_independent=found["rows_independent"],
        signature=found["signature"],
        golden=found["golden"],
    )
    lines = (BUNDLE / "requirements.txt").read_text().splitlines()
    requirements = [line for line in lines if line and not line.startswith("#")]
    loader = SCORING / "slipway_scoring" / "bundle_pyfunc.py"
    write_model(directory, BUNDLE, manifest, lock=lock.read_text(), requirements=requirements, loader=loader)
