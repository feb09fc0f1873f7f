"""What the tests of images share: the base image, models, and what an image is to be made of."""

from __future__ import annotations

import gzip
import io
import secrets
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slipway.hooks.docker_engine import DockerEngineHook
from slipway.images import identity
from slipway.images.ensure import Ingredients
from tests.images.registries import running_registry
from tests.model_host.hosts import Model, ModelMaker, compile_lock

BASE = "slipway-test/base:bookworm"


@pytest.fixture(autouse=True)
def base_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SLIPWAY__BASE_IMAGE", BASE)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    folder = tmp_path_factory.mktemp("models")
    return ModelMaker(folder, compile_lock(folder))


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_registry(tmp_path_factory.mktemp("registry")) as host:
        yield host


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Callable[[], Ingredients]]:
    """Makes what a small image is made of: an empty environment, and a program that no other image has."""
    client, made = DockerEngineHook().client, []

    def make() -> Ingredients:
        name = f"images-test/{secrets.token_hex(4)}"
        program = tmp_path / f"{secrets.token_hex(4)}.py"
        program.write_text(f"print({name!r})\n")
        app = [("program.py", program)]
        platform = identity.native_platform()
        tag = identity.image_tag("none", base_image=BASE, platform=platform, app=app)
        made.append(name)
        return Ingredients(tag, name, BASE, platform, {"images-test": name}, lambda: "", app)

    yield make
    for name in made:
        for image in client.images(filters={"label": f"images-test={name}"}):
            client.remove_image(image["Id"], force=True)


def with_model(models: ModelMaker, model: Model) -> Ingredients:
    """What the image of a model is made of; the environment is the same for all of them."""
    platform = identity.native_platform()
    digest = f"{models.folder}/{model.folder.name}"
    tag = identity.image_tag(models.digest, base_image=BASE, platform=platform, model_digest=digest)
    return Ingredients(
        tag,
        "images-test/echo",
        BASE,
        platform,
        {"images-test": "echo"},
        lambda: models.lock,
        model=lambda _: model.folder,
    )


def forget(engine: DockerEngineHook, image: str) -> None:
    """Remove an image that no other run will ask for; the engine keeps what makes the next one fast."""
    engine.client.remove_image(image, force=True, noprune=True)


def saved(engine: DockerEngineHook, image: str) -> list[bytes]:
    """All that is in an image: its configuration, its manifest and each layer's tar, which some engines compress."""
    with tarfile.open(fileobj=io.BytesIO(b"".join(engine.client.get_image(image)))) as archive:
        members = [file.read() for member in archive if (file := archive.extractfile(member))]
    return [gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data for data in members]
