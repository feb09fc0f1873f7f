"""The image of the front door that stands before the containers of an endpoint."""

from __future__ import annotations

from slipway import settings
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.images import identity
from slipway.images.ensure import Ingredients, ensure_in_engine

__all__ = ["ensure_door_image"]

_PYTHON = "3.11"


def ensure_door_image(engine: DockerEngineHook) -> str:
    """Return the door's image in an engine, built there if it is not.

    It is small, and serves every endpoint of the engine.
    """
    lock, base_image, platform = identity.door_lock(), settings.base_image(_PYTHON), identity.native_platform()
    files = identity.door_files()
    digest = identity.lock_digest(lock)
    made_of = Ingredients(
        tag=identity.image_tag(digest, base_image=base_image, platform=platform, app=files),
        repository="slipway/front-door",
        base_image=base_image,
        platform=platform,
        labels={"org.opencontainers.image.title": "front door", "slipway.lock-digest": digest},
        lock=lambda: lock.read_text(encoding="utf-8"),
        app=files,
    )
    return str(ensure_in_engine(made_of, engine)["image"])
