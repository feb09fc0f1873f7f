"""Get an image into a registry, or an engine: found there by its tag, or built and pushed."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from slipway.errors import SlipwayError
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.hooks.registry_v2 import ImageRegistry, Login, RegistryClient
from slipway.images import context, reference
from slipway.images.identity import Files, scoring_files
from slipway.images.registries import client_of, open_registry

__all__ = ["Ingredients", "ensure_in_engine", "ensure_in_registry"]

log = logging.getLogger(__name__)

_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")


@dataclass(frozen=True)
class Ingredients:
    """What goes into an image, and how to get at it when the image must really be built.

    :param tag: of `identity.image_tag`.
    :param lock: returns the text of the environment's lock.
    :param app: the program's files.
    :param model: downloads the model into a folder and returns its directory; None if it is not included.
    """

    tag: str
    repository: str
    base_image: str
    platform: str
    labels: dict[str, str]
    lock: Callable[[], str]
    app: Files = field(default_factory=scoring_files)
    model: Callable[[Path], Path] | None = None


def ensure_in_registry(made_of: Ingredients, registry_name: str, engine: DockerEngineHook) -> dict[str, Any]:
    """Return the image in a registry: `image` (`repository@sha256:…`), `repository`, `tag`, `built`.

    The engine is needed only where the registry does not have the image.

    :raises UserError: if the registry refuses, or the build fails.
    :raises Unavailable: if the registry or the engine is away.
    """
    registry = open_registry(registry_name)
    client = client_of(registry, registry_name)
    repository = f"{client.host}/{made_of.repository}"
    digest = client.find(made_of.repository, made_of.tag)
    built = False
    if digest is None:
        with _one_at_a_time(made_of.tag):
            digest = client.find(made_of.repository, made_of.tag)
            if digest is None:
                _build(made_of, repository, engine, registry.login)
                digest = _push(made_of, repository, engine, registry, client)
                built = True
    else:
        log.info("The registry has %s:%s already.", repository, made_of.tag)
    return {"image": f"{repository}@{digest}", "repository": repository, "tag": made_of.tag, "built": built}


def ensure_in_engine(made_of: Ingredients, engine: DockerEngineHook) -> dict[str, Any]:
    """Return the image in an engine, without any registry: `image` (`repository:tag`), `repository`, `tag`, `built`."""
    image = f"{made_of.repository}:{made_of.tag}"
    built = False
    if engine.find_image(image) is None:
        with _one_at_a_time(made_of.tag):
            if engine.find_image(image) is None:
                _build(made_of, made_of.repository, engine, None)
                built = True
    else:
        log.info("The engine has %s already.", image)
    return {"image": image, "repository": made_of.repository, "tag": made_of.tag, "built": built}


def _push(
    made_of: Ingredients, repository: str, engine: DockerEngineHook, registry: ImageRegistry, client: RegistryClient
) -> str:
    try:
        registry.prepare(made_of.repository)
        digest = engine.push(repository, made_of.tag, registry.login)
    except SlipwayError:
        # Somebody elsewhere built the same image, and the tag cannot be moved: theirs is as good.
        theirs = client.find(made_of.repository, made_of.tag)
        if theirs is None:
            raise
        return theirs
    log.info("Pushed %s:%s as %s", repository, made_of.tag, digest)
    return digest


def _build(made_of: Ingredients, repository: str, engine: DockerEngineHook, login: Login | None) -> None:
    _have_base(made_of, repository, engine, login)
    arguments = {"BASE_IMAGE": made_of.base_image}
    # The engine knows these names and keeps their values out of the image's history.
    arguments |= {name: os.environ[name] for name in _PROXIES if os.environ.get(name)}
    log.info("Building %s:%s on %s", repository, made_of.tag, made_of.base_image)
    with tempfile.TemporaryDirectory(prefix="slipway-image-") as folder:
        model = made_of.model(Path(folder)) if made_of.model else None
        with (Path(folder) / "context.tar").open("w+b") as file:
            index = context.index_environment()
            context.write_context(file, made_of.lock(), made_of.app, index=index, model=model)
            file.seek(0)
            engine.build(
                file,
                f"{repository}:{made_of.tag}",
                arguments=arguments,
                labels=made_of.labels,
                platform=made_of.platform,
                keep_stages=not index,
            )


def _have_base(made_of: Ingredients, repository: str, engine: DockerEngineHook, login: Login | None) -> None:
    """Pull the base where the engine does not have it; a build would, but with no login and in no clear words."""
    base = made_of.base_image
    if engine.find_image(base) is not None:
        return
    its_own = reference.registry_of(base) == reference.registry_of(repository)
    try:
        engine.pull(base, login if its_own else None, made_of.platform)
    except SlipwayError as e:
        raise type(e)(
            f"{str(e).removesuffix('.')}, and the image is to stand on it: name a base that the engine has or can "
            "pull, by 'base_image' in the conf or the setting [slipway] base_image."
        ) from None


@contextmanager
def _one_at_a_time(tag: str) -> Iterator[None]:
    """Let tasks of this machine that want the same image build it once; others meet at the registry."""
    folder = Path(tempfile.gettempdir()) / f"slipway-images-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    descriptor = os.open(folder / f"{tag}.lock", os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("Another task builds this image: waiting for it.")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
