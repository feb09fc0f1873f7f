"""What is registered, and what is deployed where. MLflow holds both; nothing else keeps state."""

from __future__ import annotations

from collections.abc import Iterator

from slipway import naming
from slipway.domain import DeploymentRecord, ModelManifest, ModelVersion
from slipway.errors import NotFound, UserError
from slipway.hooks.mlflow import MlflowHook

__all__ = ["BUNDLE_TAG", "LOCK_TAG", "TARGETS_TAG", "Registry"]

BUNDLE_TAG = "slipway.bundle_digest"
LOCK_TAG = "slipway.lock_digest"
# On the registered model: the targets that it is deployed on. An index of the records, which are the truth, because
# MLflow can search for a tag of a known name only.
TARGETS_TAG = "slipway.targets"
MANIFEST = "slipway/manifest.json"


class Registry:
    """Model versions and the record of their deployments, over MLflow's tags.

    :param mlflow: the hook to ask.
    """

    def __init__(self, mlflow: MlflowHook) -> None:
        self.mlflow = mlflow

    def resolve(self, model: str, version: str | None = None, alias: str | None = None) -> ModelVersion:
        """Return the version that a user names: by number, by alias, or the newest if neither is given.

        :raises UserError: if both are given, or the model, the version or the alias does not exist.
        """
        naming.check_model(model)
        if version and alias:
            raise UserError(
                f"Both version '{version}' and alias '{alias}' are given for model '{model}': give one of the two."
            )
        if version:
            if not version.isdigit():
                raise UserError(
                    f"Version '{version}' of model '{model}' is not a number: give one such as 1, or use alias."
                )
            found = self.mlflow.get_version(model, version)
        elif alias:
            found = self.mlflow.get_version_by_alias(model, naming.check_alias(alias))
        else:
            versions = self.mlflow.list_versions(model)
            if not versions:
                self.mlflow.get_model(model)
                raise NotFound(f"Model '{model}' has no version yet: run register_model with name '{model}' first.")
            found = versions[0]
        if found.status != "READY":
            raise UserError(
                f"Version {found.version} of model '{model}' is {found.status} in MLflow, not READY: "
                "register it again with force."
            )
        return found

    def find_by_digest(self, model: str, bundle_digest: str) -> ModelVersion | None:
        """Return the newest version of `model` that was made from a bundle, or None."""
        versions = self.mlflow.list_versions(model)
        return next((v for v in versions if v.tags.get(BUNDLE_TAG) == bundle_digest and v.status == "READY"), None)

    def manifest(self, version: ModelVersion) -> ModelManifest:
        """Return the version's manifest.

        :raises UserError: if the version was not made by register_model.
        """
        if LOCK_TAG not in version.tags:
            raise UserError(
                f"Version {version.version} of model '{version.name}' was not registered by Slipway, so nothing is "
                f"known of its environment: run register_model with model_uri '{version.uri}' first."
            )
        return ModelManifest.model_validate(self.mlflow.read_json_artifact(version, MANIFEST))

    def deployments(self, model: str) -> Iterator[tuple[ModelVersion, DeploymentRecord]]:
        """Yield every recorded deployment of a model with the version it serves."""
        for version in self.mlflow.list_versions(model):
            for key, value in version.tags.items():
                if key.startswith(naming.DEPLOYMENT_TAG_PREFIX):
                    try:
                        yield version, DeploymentRecord.model_validate_json(value)
                    except ValueError:
                        raise UserError(
                            f"Tag '{key}' of version {version.version} of model '{model}' is not a deployment's "
                            "record: somebody changed it; remove the tag in MLflow and deploy again."
                        ) from None

    def find_deployment(self, model: str, target: str, endpoint: str) -> DeploymentRecord | None:
        """Return the record of what `endpoint` on `target` serves, if it serves this model."""
        found = [r for _, r in self.deployments(model) if r.target == target and r.endpoint == endpoint]
        return max(found, key=lambda r: r.deployed_at, default=None)

    def record(self, record: DeploymentRecord) -> None:
        """Record a deployment on its version, and take the endpoint's record off every other version.

        The new tag is set first: killed in between, the newest record wins.
        """
        tag = naming.deployment_tag(record.target, record.endpoint)
        versions = self.mlflow.list_versions(record.model)
        served = next((v for v in versions if v.version == record.version), None)
        if served is None:
            raise NotFound(f"Version {record.version} of model '{record.model}' is not in MLflow any more.")
        self.mlflow.set_version_tag(served, tag, record.model_dump_json(exclude={"samples"}))
        for version in versions:
            if version.version != record.version and tag in version.tags:
                self.mlflow.delete_version_tag(version, tag)
        self._index(record.model, {*_deployment_tags(versions), tag})

    def forget(self, model: str, target: str, endpoint: str) -> bool:
        """Remove the record of an endpoint; return whether there was one."""
        tag = naming.deployment_tag(target, endpoint)
        versions = self.mlflow.list_versions(model)
        tagged = [v for v in versions if tag in v.tags]
        for version in tagged:
            self.mlflow.delete_version_tag(version, tag)
        if versions:  # also where no tag was there: a killed task may have left the index as it was
            self._index(model, _deployment_tags(versions) - {tag})
        return bool(tagged)

    def _index(self, model: str, tags: set[str]) -> None:
        targets = {tag.removeprefix(naming.DEPLOYMENT_TAG_PREFIX).partition(".")[0] for tag in tags}
        self.mlflow.set_model_tag(model, TARGETS_TAG, " ".join(sorted(targets)))


def _deployment_tags(versions: list[ModelVersion]) -> set[str]:
    return {key for version in versions for key in version.tags if key.startswith(naming.DEPLOYMENT_TAG_PREFIX)}
