"""Images of two versions, and an endpoint of the test's own on a real engine."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from slipway.containers.spec import ServerSpec
from slipway.hooks.docker import DockerEndpointHook
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.images.ensure import ensure_in_engine
from tests.images.conftest import base_image, forget, models, with_model
from tests.model_host.hosts import ModelMaker

__all__ = ["base_image", "models"]


@pytest.fixture(scope="session")
def images(models: ModelMaker) -> Iterator[dict[str, str]]:
    """Images by the version of the model inside."""
    engine = DockerEngineHook()
    versions = ("1", "2", "broken")
    made = {v: str(ensure_in_engine(with_model(models, models.make(v)), engine)["image"]) for v in versions}
    yield made
    for image in made.values():
        forget(engine, image)


class Place:
    """An endpoint, and short words for what is done with it."""

    def __init__(self, images: dict[str, str], conn_id: str = "docker_default") -> None:
        self.name = f"test-{secrets.token_hex(4)}"
        self.hook = DockerEndpointHook(conn_id)
        self._images = images

    def put(self, version: str, port: int | None = None, **limits: float) -> str:
        """Start a version; returns its deployment."""
        deployment = f"v{version}-00000000"
        spec = ServerSpec(self.name, deployment, "echo", version, self._images[version], **limits)  # type: ignore[arg-type]
        self.hook.put_deployment(spec, port)
        return deployment


@pytest.fixture
def place(images: dict[str, str]) -> Iterator[Place]:
    made = Place(images)
    yield made
    made.hook.delete_endpoint(made.name)
