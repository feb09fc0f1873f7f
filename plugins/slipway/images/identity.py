"""What a scoring image is made of, and the tag that follows from it."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterator
from pathlib import Path

from slipway import settings
from slipway.domain import ModelVersion

__all__ = [
    "DOCKERFILE",
    "general_lock",
    "general_lock_digest",
    "image_tag",
    "model_digest",
    "native_platform",
    "package_files",
]

DOCKERFILE = "Dockerfile"
_PACKAGE = "slipway_scoring"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def image_tag(lock_digest: str, *, base_image: str, platform: str, model_digest: str | None = None) -> str:
    """Return the tag of the image with these contents: 64 hexadecimal digits.

    It covers what is in the image: the environment's lock, the scoring package and Dockerfile of this installation,
    the base, the platform, and the model where it is included. A base is as exact as its reference: one by digest
    names one base, one by tag whatever the tag points to.

    :param lock_digest: sha256 of the environment's `requirements.lock`.
    :param base_image: reference of the base image.
    :param platform: such as `linux/amd64`.
    :param model_digest: identity of the included model, if there is one.
    """
    contents = {
        "lock": lock_digest,
        "files": _files_digest(),
        "base": base_image,
        "platform": platform,
        "model": model_digest,
    }
    return hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()


def package_files() -> Iterator[tuple[str, Path]]:
    """Yield the scoring package's files, sorted: name below the scoring home, and path."""
    home = settings.scoring_home()
    for path in sorted((home / _PACKAGE).rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(home).as_posix(), path


def general_lock() -> Path:
    """Return the lock of the general image: the server and the libraries that it loads models with."""
    return settings.scoring_home() / "general.lock"


def general_lock_digest() -> str:
    """Return the sha256 of the general image's lock."""
    return hashlib.sha256(general_lock().read_bytes()).hexdigest()


def model_digest(version: ModelVersion, artifact_uri: str) -> str:
    """Return what identifies a model version's files without reading them: MLflow never changes them in place."""
    identity = [version.name, version.version, artifact_uri]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def native_platform() -> str:
    """Return the platform that locks are made for: this machine's, as images name it."""
    machine = platform.machine()
    return f"linux/{_MACHINES.get(machine, machine)}"


def _files_digest() -> str:
    digest = hashlib.sha256()
    for name, path in [(DOCKERFILE, settings.scoring_home() / DOCKERFILE), *package_files()]:
        digest.update(f"{name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
