"""Have the image that a deploy needs, in a registry or in the engine that is to run it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import settings
from slipway.domain import ModelVersion
from slipway.errors import UserError
from slipway.hooks.docker_engine import DockerEngineHook
from slipway.hooks.mlflow import MlflowHook
from slipway.images import identity, reference
from slipway.images.ensure import Ingredients, ensure_in_engine, ensure_in_registry
from slipway.model_download import download_model
from slipway.operators.base import SlipwayOperator
from slipway.registry import Registry

__all__ = ["BuildImageOperator", "EnsureImageOperator"]

_LOCK = "slipway/requirements.lock"
_GENERAL_PYTHON = "3.11"


class _ImageOperator(SlipwayOperator):
    """What both operators have in common.

    :param registry: `ecr`, `acr`, or a docker connection; None leaves the image in the engine.
    :param repository: its name in the registry, without the host.
    :param include_model: whether the model itself goes into the image.
    :param base_image: the image to build on; by default the setting `base_image`.
    :param platform: such as `linux/amd64`; by default this machine's.
    :param docker_conn_id: the engine that builds, if something must be built.
    """

    template_fields: Sequence[str] = (
        "registry",
        "repository",
        "include_model",
        "base_image",
        "platform",
        "docker_conn_id",
    )

    def __init__(
        self,
        *,
        registry: Any = None,
        repository: Any = None,
        include_model: Any = False,
        base_image: Any = None,
        platform: Any = None,
        docker_conn_id: Any = "docker_default",
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.registry = registry
        self.repository = repository
        self.include_model = include_model
        self.base_image = base_image
        self.platform = platform
        self.docker_conn_id = docker_conn_id
        self.mlflow_conn_id = mlflow_conn_id

    def ensure(self, version: ModelVersion | None) -> dict[str, Any]:
        """Return `image`, `repository`, `tag` and `built` for a model version, or for the general image.

        :raises UserError: if a param is wrong, the registry refuses, or the build fails.
        :raises Unavailable: if the registry or the engine is away.
        """
        made_of = self._ingredients(version)
        engine = DockerEngineHook(self.docker_conn_id or "docker_default")
        if self.registry:
            return ensure_in_registry(made_of, self.registry, engine)
        return ensure_in_engine(made_of, engine)

    def _ingredients(self, version: ModelVersion | None) -> Ingredients:
        mlflow = Registry(MlflowHook(self.mlflow_conn_id))
        if version is None:
            if self.include_model:
                raise UserError("include_model is set, but no model is named: name one, or leave include_model out.")
            lock_digest: str | None = identity.lock_digest(identity.general_lock())
            python: str | None = _GENERAL_PYTHON
            model_digest = None
        else:
            manifest = mlflow.manifest(version)
            lock_digest, python = manifest.lock_digest, manifest.python
            included = bool(self.include_model)
            model_digest = identity.model_digest(version, mlflow.mlflow.artifact_uri(version)) if included else None
        if not lock_digest or not python:
            raise UserError(
                f"Nothing is known of the environment of version {version and version.version} of model "
                f"'{version and version.name}': register it again with force."
            )
        base_image = reference.check_reference(self.base_image or settings.base_image(python))
        platform = reference.check_platform(self.platform or identity.native_platform())
        tag = identity.image_tag(lock_digest, base_image=base_image, platform=platform, model_digest=model_digest)
        named = version.name if version and model_digest else None
        return Ingredients(
            tag=tag,
            repository=reference.check_repository(self.repository or reference.default_repository(named)),
            base_image=base_image,
            platform=platform,
            labels=_labels(tag, lock_digest, version if model_digest else None),
            lock=lambda: _lock_text(mlflow.mlflow, version),
            model=_downloader(version, self.mlflow_conn_id) if version and model_digest else None,
        )


class EnsureImageOperator(_ImageOperator):
    """The step of a deploy that makes sure of its image; what is there is not built again.

    Returns `image` (`repository@sha256:…`, or `repository:tag` in an engine), `repository`, `tag` and `built`.

    :param plan: what `ResolveVersionOperator` returned.
    :param image: a reference that the user gave: it is taken as it is.
    """

    template_fields: Sequence[str] = (*_ImageOperator.template_fields, "plan", "image")

    def __init__(self, *, plan: Any, image: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.image = image

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the image; see `ensure`."""
        if self.image:
            image = reference.check_reference(self.image)
            return {"image": image, "repository": reference.repository_of(image), "tag": None, "built": False}
        registry = Registry(MlflowHook(self.mlflow_conn_id))
        return self.ensure(registry.resolve(self.plan["model"], self.plan["version"]))


class BuildImageOperator(_ImageOperator):
    """Build and push the image of a model, or the general one.

    :param model: registered model; None for the general image.
    :param version: its version; or
    :param alias: one of its aliases; by default the newest version.
    """

    template_fields: Sequence[str] = (*_ImageOperator.template_fields, "model", "version", "alias")

    def __init__(self, *, model: Any = None, version: Any = None, alias: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.version = version
        self.alias = alias

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the image; see `ensure`."""
        if not self.model:
            if self.version or self.alias:
                raise UserError("A version or alias is given, but no model: name the model too.")
            return self.ensure(None)
        return self.ensure(Registry(MlflowHook(self.mlflow_conn_id)).resolve(self.model, self.version, self.alias))


def _labels(tag: str, lock_digest: str, version: ModelVersion | None) -> dict[str, str]:
    """Return the labels that say what is inside.

    https://github.com/opencontainers/image-spec/blob/main/annotations.md
    """
    labels = {
        "org.opencontainers.image.title": f"{version.name} (scoring)" if version else "scoring",
        "org.opencontainers.image.source": version.uri if version else "slipway",
        "org.opencontainers.image.version": version.version if version else tag[:12],
        "slipway.digest": tag,
        "slipway.lock-digest": lock_digest,
    }
    if version:
        labels |= {"slipway.model": version.name, "slipway.version": version.version}
    return labels


def _lock_text(mlflow: MlflowHook, version: ModelVersion | None) -> str:
    if version is None:
        return identity.general_lock().read_text(encoding="utf-8")
    return mlflow.read_text_artifact(version, _LOCK)


def _downloader(version: ModelVersion, conn_id: str) -> Any:
    def download(folder: Path) -> Path:
        return download_model(version, folder, conn_id)

    return download
