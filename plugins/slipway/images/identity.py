"""What a scoring image is made of, and the tag that follows from it."""

from __future__ import annotations

import hashlib
import json
import platform
from pathlib import Path

from slipway import settings
from slipway.domain import ModelVersion

__all__ = [
    "DOCKERFILE",
    "Files",
    "door_files",
    "door_lock",
    "general_lock",
    "image_tag",
    "lock_digest",
    "model_digest",
    "native_platform",
    "scoring_files",
]

DOCKERFILE = "Dockerfile"
Files = list[tuple[str, Path]]
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def image_tag(
    lock_digest: str, *, base_image: str, platform: str, model_digest: str | None = None, app: Files | None = None
) -> str:
    """Return the tag of the image with these contents: 64 hexadecimal digits.

    It covers what is in the image: the environment's lock, the scoring package and Dockerfile of this installation,
    the base, the platform, and the model where it is included. A base is as exact as its reference: one by digest
    names one base, one by tag whatever the tag points to.

    :param lock_digest: sha256 of the environment's `requirements.lock`.
    :param base_image: reference of the base image.
    :param platform: such as `linux/amd64`.
    :param model_digest: identity of the included model, if there is one.
    :param app: the program in it, if it is not the scoring server.
    """
    contents = {
        "lock": lock_digest,
        "files": _files_digest(scoring_files() if app is None else app),
        "base": base_image,
        "platform": platform,
        "model": model_digest,
    }
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def scoring_files() -> Files:
    """Return the scoring server's files."""
    return _package(settings.scoring_home() / "slipway_scoring")


def door_files() -> Files:
    """Return the files of the front door that stands before the containers of an endpoint."""
    return _package(settings.model_host_home() / "slipway_model_host")


def door_lock() -> Path:
    """Return the lock of the front door's image."""
    return settings.model_host_home() / "door.lock"


def lock_digest(lock: Path) -> str:
    """Return the sha256 of a lock."""
    return hashlib.sha256(lock.read_bytes()).hexdigest()


def _package(folder: Path) -> Files:
    """Return a package's files, sorted: name with the package's own, and path."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return sorted((path.relative_to(folder.parent).as_posix(), path) for path in files)


def general_lock() -> Path:
    """Return the lock of the general image: the server and the libraries that it loads models with."""
    return settings.scoring_home() / "general.lock"


def model_digest(version: ModelVersion, artifact_uri: str) -> str:
    """Return what identifies a model version's files without reading them: MLflow never changes them in place."""
    identity = [version.name, version.version, artifact_uri]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def native_platform() -> str:
    """Return the platform that locks are made for: this machine's, as images name it."""
    machine = platform.machine()
    return f"linux/{_MACHINES.get(machine, machine)}"


def _files_digest(app: Files) -> str:
    digest = hashlib.sha256()
    for name, path in [(DOCKERFILE, settings.scoring_home() / DOCKERFILE), *app]:
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
