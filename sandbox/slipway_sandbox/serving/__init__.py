"""Run one scoring server for a fake cloud: in a container where an engine and an image are, else as a process.

server = start(model_dir, folder=run_folder, environments=environments, image="127.0.0.1:5000/churn@sha256:…")
server.url, server.exit_status(), server.logs(), server.stop()
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from slipway_sandbox.serving import container, process
from slipway_sandbox.serving.server import Login, Server, ServingError

__all__ = ["Login", "Server", "ServingError", "end_leftovers", "start"]


def start(
    model_dir: Path,
    *,
    folder: Path,
    environments: Path,
    image: str | None = None,
    env: Mapping[str, str] | None = None,
    argv: Sequence[str] = ("serve",),
    port: int = 8080,
    mount: str = "/opt/ml/model",
    login: Login | None = None,
) -> Server:
    """Start a server and return at once; whether it answers is for the caller to ask.

    The environment of a process is made first if it is not there, which takes as long as uv takes.

    :param model_dir: MLflow model directory; a container gets a copy of it at `mount`.
    :param folder: for logs, and for notes by which `end_leftovers` finds what a killed caller left.
    :param environments: folder of the models' virtual environments, for processes.
    :param image: reference of the image. Without one, or without an engine, a process serves.
    :param env: the server's variables.
    :param argv: the container's command; its first word is a command of `slipway_scoring`.
    :param port: where the server listens inside the container.
    :param login: of the image's registry, for the pull.
    :raises ServingError: if the image cannot be had, or the environment cannot be made.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"serving-{secrets.token_hex(6)}"
    if image is not None and container.engine_is_there():
        return container.start(
            name, model_dir, image, folder=folder, env=env or {}, argv=argv, port=port, mount=mount, login=login
        )
    return process.start(name, model_dir, folder=folder, environments=environments, env=env or {}, argv=argv)


def end_leftovers(folder: Path) -> int:
    """End the servers that an earlier caller with this folder left behind; return how many there were."""
    return process.end_leftovers(folder) + container.end_leftovers(folder)
