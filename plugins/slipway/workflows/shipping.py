"""A model's files and environment, where Spark's executors find them: in place on this machine, or as archives.

Everything has the digest of its content in its name and appears whole, so several tasks may make the same thing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from slipway import settings
from slipway.domain import ModelVersion
from slipway.errors import Unavailable, UserError
from slipway.hooks.mlflow import MlflowHook

__all__ = ["code_archive", "environment_of", "model_files", "packed"]

_PROXIED = "mlflow-artifacts:/"
_LOCK = "slipway/requirements.lock"


def model_files(hook: MlflowHook, version: ModelVersion) -> Path:
    """Return the version's model directory on this machine, downloaded once."""
    uri = hook.artifact_uri(version)
    name = f"{version.name}-v{version.version}-{hashlib.sha256(uri.encode()).hexdigest()[:12]}"

    def fetch(folder: Path) -> None:
        if uri.startswith(_PROXIED):
            _fetch_proxied(hook, uri.removeprefix(_PROXIED).lstrip("/"), folder)
        else:  # MLflow's own client knows S3 and the others; importing it costs seconds
            shutil.copytree(hook.download(version.uri, folder / ".download"), folder, dirs_exist_ok=True)
            shutil.rmtree(folder / ".download")

    return _made_once(settings.spark_archives() / "models" / name, fetch)


def environment_of(model: Path, label: str) -> Path:
    """Return the model's virtual environment, made from its lock if it is not there.

    :raises UserError: if the model has no lock, or it cannot be installed.
    """
    lock = model / _LOCK
    if not lock.is_file():
        raise UserError(f"{label} has no {_LOCK}, so its environment is not known: register it with register_model.")
    command = [sys.executable, "-m", "slipway_scoring", "environment", "--lock", str(lock)]
    command += ["--root", str(settings.environments_dir())]
    environment = {**os.environ, "PYTHONPATH": str(settings.scoring_home())}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())[-600:]
        raise Unavailable(f"The environment of {label} cannot be made: {reason}")
    return Path(done.stdout.strip().splitlines()[-1])


def packed(folder: Path, name: str) -> Path:
    """Return a `tar.gz` of a folder's content, made once; `name` must change with the content."""

    def pack(target: Path) -> None:
        with tarfile.open(target / f"{name}.tar.gz", "w:gz", compresslevel=1) as archive:
            archive.add(folder, arcname=".", filter=_without_bytecode)

    return _made_once(settings.spark_archives() / "archives" / name, pack) / f"{name}.tar.gz"


def code_archive() -> Path:
    """Return a zip of the packages that run on executors: the scoring package and the Spark job's own."""
    files = {
        str(path.relative_to(home)): path.read_bytes()
        for home in (settings.scoring_home(), settings.spark_home())
        for path in sorted(home.glob("slipway_*/**/*.py"))
    }
    digest = hashlib.sha256(repr(sorted(files.items())).encode()).hexdigest()[:12]
    name = f"slipway-{digest}"

    def pack(target: Path) -> None:
        with zipfile.ZipFile(target / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in files.items():
                archive.writestr(path, content)

    return _made_once(settings.spark_archives() / "archives" / name, pack) / f"{name}.zip"


def _made_once(target: Path, make: Callable[[Path], Any]) -> Path:
    """Make a directory beside its place and move it there whole; whoever comes second uses the first one's."""
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".making-") as folder:
        made = Path(folder) / "content"
        made.mkdir()
        make(made)
        try:
            made.rename(target)
        except OSError:
            if not target.is_dir():
                raise
    return target


def _without_bytecode(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = ""
    return None if entry.name.endswith(("/__pycache__", ".pyc")) else entry


def _fetch_proxied(hook: MlflowHook, root: str, folder: Path) -> None:
    """Download a folder through the tracking server's artifact proxy, with nothing of MLflow imported."""
    api = "/api/2.0/mlflow-artifacts/artifacts"
    with hook.get_conn() as client:
        pending = [""]
        while pending:
            below = pending.pop()
            listed = hook.call("GET", api, params={"path": f"{root}/{below}".rstrip("/")}) or {}
            for entry in listed.get("files", []):
                path = f"{below}/{entry['path']}".lstrip("/")
                if ".." in Path(path).parts:
                    raise UserError(
                        f"MLflow lists a file '{path}' in the model, which leads out of it: register it again."
                    )
                if entry.get("is_dir"):
                    pending.append(path)
                    continue
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with client.stream("GET", f"{api}/{root}/{path}") as response, target.open("wb") as file:
                    if not response.is_success:
                        raise Unavailable(f"MLflow answers HTTP {response.status_code} for the model's file '{path}'.")
                    for chunk in response.iter_bytes():
                        file.write(chunk)
    if not (folder / "MLmodel").is_file():
        raise UserError(f"MLflow has no model at {_PROXIED}{root}: its artifacts are gone, so register it again.")
