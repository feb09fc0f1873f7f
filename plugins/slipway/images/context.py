"""The build context: a tar that holds just what the Dockerfile asks for, the same bytes for the same contents."""

from __future__ import annotations

import io
import os
import shlex
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from slipway import settings
from slipway.images.identity import DOCKERFILE, Files

__all__ = ["index_environment", "write_context"]

# How uv and pip find another package index than the public one. Paths on this machine mean nothing in a build.
_INDEX = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_INDEX_STRATEGY", "UV_INSECURE_HOST",
          "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_TRUSTED_HOST")  # fmt: skip


def index_environment(environment: Mapping[str, str] = os.environ) -> str:
    """Return, as a shell file, the variables that lead to this machine's package index; empty for the public one."""
    found = {name: environment[name] for name in _INDEX if environment.get(name) and "file:" not in environment[name]}
    index = found.get("UV_DEFAULT_INDEX") or found.get("UV_INDEX_URL")
    if index:
        found.setdefault("PIP_INDEX_URL", index)
    return "".join(f"{name}={shlex.quote(value)}\n" for name, value in sorted(found.items()))


def write_context(target: BinaryIO, lock: str, app: Files, *, index: str = "", model: Path | None = None) -> None:
    """Write the context of an image as a tar.

    :param lock: text of `requirements.lock`.
    :param app: the files of the program, by their names below its folder.
    :param index: text of `index.env`.
    :param model: the model directory to include.
    """
    with tarfile.open(fileobj=target, mode="w|") as archive:
        _add(archive, DOCKERFILE, settings.scoring_home() / DOCKERFILE)
        _add_text(archive, "requirements.lock", lock)
        _add_text(archive, "index.env", index)
        _add_folder(archive, "app")
        for name, path in app:
            _add(archive, f"app/{name}", path)
        _add_folder(archive, "model")
        for path in _below(model):
            name = f"model/{path.relative_to(model).as_posix()}" if model else ""
            if path.is_dir():
                _add_folder(archive, name)
            else:
                _add(archive, name, path)


def _below(model: Path | None) -> Iterator[Path]:
    if model is not None:
        yield from sorted(model.rglob("*"))


def _add(archive: tarfile.TarFile, name: str, path: Path) -> None:
    info = _entry(name, 0o644)
    info.size = path.stat().st_size
    with path.open("rb") as file:
        archive.addfile(info, file)


def _add_text(archive: tarfile.TarFile, name: str, text: str) -> None:
    data = text.encode()
    info = _entry(name, 0o644)
    info.size = len(data)
    archive.addfile(info, io.BytesIO(data))


def _add_folder(archive: tarfile.TarFile, name: str) -> None:
    info = _entry(name, 0o755)
    info.type = tarfile.DIRTYPE
    archive.addfile(info)


def _entry(name: str, mode: int) -> tarfile.TarInfo:
    """Return an entry that says nothing of this machine: no owner, no date."""
    info = tarfile.TarInfo(name)
    info.mode = mode
    return info
