"""Register a bundle, or an MLflow model made elsewhere, as a model version."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import naming, settings
from slipway.assets import MODEL_VERSION
from slipway.domain import ModelManifest, ModelVersion
from slipway.errors import UserError
from slipway.hooks.mlflow import RUN_TAG, MlflowHook
from slipway.links import ModelVersionLink
from slipway.operators.base import SlipwayOperator, run_of
from slipway.registry import BUNDLE_TAG, LOCK_TAG, Registry

__all__ = ["RegisterModelOperator", "ResolveBundleOperator", "SetAliasOperator"]


class ResolveBundleOperator(SlipwayOperator):
    """Find the bundle that is to be registered; an MLflow model made elsewhere is taken into the store first.

    Returns `name` and `digest`.

    :param name: name of the model to register.
    :param bundle: digest of the bundle, or its first 12 characters; by default the newest of that name.
    :param model_uri: in place of a bundle, an MLflow model made elsewhere.
    :param alias: the alias that will be set; only checked here, before anything is made.
    """

    template_fields: Sequence[str] = ("name", "bundle", "model_uri", "alias")

    def __init__(
        self,
        *,
        name: Any,
        bundle: Any = None,
        model_uri: Any = None,
        alias: Any = None,
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.name = name
        self.bundle = bundle
        self.model_uri = model_uri
        self.alias = alias
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:
        """Return the model's name and the bundle's digest.

        :raises UserError: if a name is not allowed, both kinds of source are given, or there is no such bundle.
        """
        from slipway.bundles import intake

        naming.check_model(self.name)
        if self.alias:
            naming.check_alias(self.alias)
        if self.bundle and self.model_uri:
            raise UserError(
                f"Both bundle '{self.bundle}' and model_uri '{self.model_uri}' are given for model '{self.name}': "
                "give one of the two."
            )
        if self.model_uri:
            with tempfile.TemporaryDirectory(prefix="slipway-model-") as folder:
                model = MlflowHook(self.mlflow_conn_id).download(self.model_uri, Path(folder))
                digest = intake.take_model(model, name=self.name, source_uri=self.model_uri, run_id=context["run_id"])
        else:
            digest = intake.find(self.name, naming.check_digest(self.bundle) if self.bundle else None)
        self.log.info("Bundle %s is to be registered as model '%s'.", digest, self.name)
        return {"name": self.name, "digest": digest}


class RegisterModelOperator(SlipwayOperator):
    """Log a bundle as a plain MLflow pyfunc and register it; a bundle that is registered keeps its version.

    :param resolved: what `ResolveBundleOperator` returned.
    :param alias: alias to set on the version.
    :param force: make a new version in any case.
    """

    template_fields: Sequence[str] = ("resolved", "alias", "force")
    operator_extra_links = (ModelVersionLink(),)

    def __init__(
        self,
        *,
        resolved: Any,
        alias: Any = None,
        force: Any = False,
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(outlets=[MODEL_VERSION], **kwargs)
        self.resolved = resolved
        self.alias = alias
        self.force = force
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:
        """Return `model`, `version`, `digest`, `alias` and whether the version is new (`created`)."""
        name, digest = self.resolved["name"], self.resolved["digest"]
        run = run_of(context)
        hook = MlflowHook(self.mlflow_conn_id)
        known = self._known(Registry(hook), name, digest, run)
        version = known or self._log_version(hook, name, digest, run)
        if self.alias:
            hook.set_alias(name, self.alias, version.version)
        self.log.info(
            "Bundle %s is version %s of model '%s'%s.",
            digest, version.version, name, "" if known is None else ", as it was before",
        )  # fmt: skip
        result = {
            "model": name,
            "version": version.version,
            "digest": digest,
            "alias": self.alias,
            "created": known is None,
            "page": hook.page_url(version),
        }
        ModelVersionLink.persist(context, result["page"])
        context["outlet_events"][MODEL_VERSION].extra = result
        return result

    def _known(self, registry: Registry, name: str, digest: str, run: str) -> ModelVersion | None:
        if not self.force:
            return registry.find_by_digest(name, digest)
        # A retry of a forced registration must not make a second version.
        mine = {RUN_TAG: run, BUNDLE_TAG: digest}.items()
        versions = registry.mlflow.list_versions(name)
        return next((v for v in versions if mine <= v.tags.items() and v.status == "READY"), None)

    def _log_version(self, hook: MlflowHook, name: str, digest: str, run: str) -> ModelVersion:
        from slipway.bundles import intake
        from slipway.model_files import add_slipway_files, write_model

        with tempfile.TemporaryDirectory(prefix="slipway-model-") as folder, intake.materialise(digest) as stored:
            directory = Path(folder) / "model"
            manifest = ModelManifest.model_validate(stored.manifest)
            if (stored.files / "MLmodel").is_file():
                shutil.copytree(stored.files, directory)
                add_slipway_files(directory, manifest, stored.lock)
            else:
                write_model(
                    directory,
                    stored.files,
                    manifest,
                    lock=stored.lock,
                    requirements=stored.requirements,
                    loader=settings.scoring_home() / "slipway_scoring" / "bundle_pyfunc.py",
                )
            tags = {BUNDLE_TAG: digest, LOCK_TAG: manifest.lock_digest or "", RUN_TAG: run}
            return hook.log_version(name, directory, tags)


class SetAliasOperator(SlipwayOperator):
    """Point an alias of a model to one of its versions; another version loses it.

    :param model: registered model.
    :param version: the version, by number.
    :param alias: the alias, such as `champion`.
    """

    template_fields: Sequence[str] = ("model", "version", "alias")
    operator_extra_links = (ModelVersionLink(),)

    def __init__(
        self, *, model: Any, version: Any, alias: Any, mlflow_conn_id: str = "mlflow_default", **kwargs: Any
    ) -> None:
        super().__init__(outlets=[MODEL_VERSION], **kwargs)
        self.model = model
        self.version = version
        self.alias = alias
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:
        """Return `model`, `version` and `alias`.

        :raises UserError: if the alias is not allowed, or there is no such version.
        """
        alias = naming.check_alias(self.alias)
        hook = MlflowHook(self.mlflow_conn_id)
        version = Registry(hook).resolve(self.model, self.version)
        hook.set_alias(version.name, alias, version.version)
        self.log.info("Version %s of model '%s' is its %s.", version.version, version.name, alias)
        result: dict[str, Any] = {
            "model": version.name,
            "version": version.version,
            "alias": alias,
            "page": hook.page_url(version),
        }
        ModelVersionLink.persist(context, result["page"])
        context["outlet_events"][MODEL_VERSION].extra = result
        return result
