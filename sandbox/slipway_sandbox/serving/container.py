"""The server as a container: the image's own command, the model's files copied in, a port on loopback."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any

import docker
from docker.errors import APIError, DockerException, NotFound

from slipway_sandbox.serving.server import Login, ServingError
from slipway_stack.ports import LOOPBACK

__all__ = ["end_leftovers", "engine_is_there", "start"]

_LABEL = "slipway.sandbox.folder"
_STOP_SECONDS = 10


class ContainerServer:
    """A scoring server in a container."""

    def __init__(self, container: Any, port: int) -> None:
        container.reload()
        (binding, *_) = container.ports[f"{port}/tcp"]
        self.url = f"http://{LOOPBACK}:{binding['HostPort']}"
        self._container = container

    def exit_status(self) -> int | None:
        try:
            self._container.reload()
        except NotFound:
            return 137
        state = self._container.attrs["State"]
        return None if state["Running"] else int(state["ExitCode"])

    def logs(self) -> list[str]:
        try:
            return list(self._container.logs().decode(errors="replace").splitlines())
        except NotFound:
            return []

    def stop(self) -> None:
        try:
            self._container.stop(timeout=_STOP_SECONDS)
            self._container.remove(force=True, v=True)
        except NotFound:
            return


@cache
def engine_is_there() -> bool:
    """Whether a Docker Engine answers here."""
    try:
        return bool(_engine().ping())
    except DockerException:
        return False


@cache
def _engine() -> Any:
    return docker.from_env()


def start(
    name: str,
    model_dir: Path,
    image: str,
    *,
    folder: Path,
    env: Mapping[str, str],
    argv: Sequence[str],
    port: int,
    mount: str,
    login: Login | None,
) -> ContainerServer:
    """Pull the image and start a container of it with the model's files at `mount`.

    :raises ServingError: if the image cannot be had, or the engine cannot start it.
    """
    try:
        _pull(image, login)
        container = _engine().containers.create(
            image, list(argv), name=name, environment=dict(env), labels={_LABEL: str(folder)},
            ports={f"{port}/tcp": (LOOPBACK, None)},
        )  # fmt: skip
        try:
            # Copied and not mounted: the engine may run on another machine, and sees other folders.
            container.put_archive("/", _archive(model_dir, PurePosixPath(mount)))
            container.start()
            return ContainerServer(container, port)
        except (DockerException, KeyError):
            container.remove(force=True, v=True)
            raise
    except APIError as error:
        raise ServingError(f"Image {image} cannot be run: {error.explanation or error}") from None
    except (DockerException, KeyError) as error:
        raise ServingError(f"Image {image} cannot be run: {error}") from None


def _pull(image: str, login: Login | None) -> None:
    if "@sha256:" in image:  # the same for ever, so that one that is here will do
        with suppress(NotFound):
            _engine().images.get(image)
            return
    _engine().images.pull(image, auth_config={"username": login.user, "password": login.password} if login else None)


def _archive(model_dir: Path, mount: PurePosixPath) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(model_dir, arcname=str(mount.relative_to("/")), filter=_readable)
    return buffer.getvalue()


def _readable(entry: tarfile.TarInfo) -> tarfile.TarInfo:
    """As clouds do: whoever the image's user is can read the model."""
    entry.mode |= 0o555 if entry.isdir() else 0o444
    entry.uid = entry.gid = 0
    entry.uname = entry.gname = "root"
    return entry


def end_leftovers(folder: Path) -> int:
    """Remove every container that was started with `folder`; return how many there were."""
    if not engine_is_there():
        return 0
    found = _engine().containers.list(all=True, filters={"label": f"{_LABEL}={folder}"})
    for container in found:
        container.remove(force=True, v=True)
    return len(found)
