"""MLflow's model registry over its REST API.

The calls that every deploy makes go over plain HTTP, because `import mlflow` costs several seconds in each
task. Only logging a model needs MLflow's own client: `tracking_client`.

Source of the protocol: https://mlflow.org/docs/latest/api_reference/rest-api.html
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from slipway.domain import ModelVersion
from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.rest import RestHook, base_url

if TYPE_CHECKING:
    from mlflow import MlflowClient

__all__ = ["RUN_TAG", "MlflowHook"]

RUN_TAG = "slipway.run"
EXPERIMENT = "slipway"

# MLflow's names for 429, 503 and 504.
_PASSING_CODES = frozenset({"REQUEST_LIMIT_EXCEEDED", "TEMPORARILY_UNAVAILABLE", "DEADLINE_EXCEEDED"})
# Kinds of model_uri: what the tracking server resolves itself, and object stores.
_SERVER_SCHEMES = frozenset({"runs", "models", "mlflow-artifacts"})
_MODEL_SCHEMES = _SERVER_SCHEMES | {"s3", "gs", "abfss", "wasbs", "hdfs", "dbfs"}

_API = "/api/2.0/mlflow"
_PAGE = 1000


class MlflowHook(RestHook):
    """MLflow's tracking server and model registry.

    :param conn_id: HTTP connection with the server's address.
    """

    service = "The MLflow server"

    def __init__(self, conn_id: str = "mlflow_default") -> None:
        super().__init__(conn_id)

    def get_version(self, model: str, version: str) -> ModelVersion:
        """Return one version.

        :raises NotFound: if there is none, in a sentence that says which versions there are.
        """
        try:
            answer = self.call("GET", f"{_API}/model-versions/get", params={"name": model, "version": version})
        except NotFound as e:
            raise self._unknown_version(model, version, e) from None
        return _version(answer["model_version"])

    def get_version_by_alias(self, model: str, alias: str) -> ModelVersion:
        """Return the version that `alias` points to.

        :raises NotFound: if there is no such model or alias.
        """
        try:
            answer = self.call("GET", f"{_API}/registered-models/alias", params={"name": model, "alias": alias})
        except UserError as e:
            if e.code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
                raise
            aliases = self.get_model(model).get("aliases", [])
            known = ", ".join(sorted(f"'{a['alias']}'" for a in aliases)) or "none"
            raise NotFound(
                f"Model '{model}' has no alias '{alias}' (its aliases: {known}): "
                "set it with register_model's alias, or name a version."
            ) from None
        return _version(answer["model_version"])

    def get_model(self, model: str) -> dict[str, Any]:
        """Return MLflow's description of a registered model.

        :raises NotFound: if it is not registered.
        """
        try:
            answer = self.call("GET", f"{_API}/registered-models/get", params={"name": model})
        except NotFound:
            raise NotFound(
                f"Model '{model}' is not registered in MLflow: run register_model with name '{model}' first."
            ) from None
        return dict(answer["registered_model"])

    def list_versions(self, model: str) -> list[ModelVersion]:
        """Return all versions of a model, newest first; none if it is not registered."""
        versions: list[ModelVersion] = []
        token = ""
        while True:
            params: dict[str, Any] = {"filter": f"name='{model}'", "max_results": _PAGE}
            if token:
                params["page_token"] = token
            answer = self.call("GET", f"{_API}/model-versions/search", params=params) or {}
            versions += [_version(v) for v in answer.get("model_versions", [])]
            token = answer.get("next_page_token", "")
            if not token:
                return sorted(versions, key=lambda v: int(v.version), reverse=True)

    def artifact_uri(self, version: ModelVersion) -> str:
        """Return where MLflow keeps the version's files."""
        params = {"name": version.name, "version": version.version}
        return str(self.call("GET", f"{_API}/model-versions/get-download-uri", params=params)["artifact_uri"])

    def read_json_artifact(self, version: ModelVersion, path: str) -> Any:
        """Return one JSON file of a version's model directory.

        The route is the one MLflow's own pages use to show an artifact.
        """
        params = {"name": version.name, "version": version.version, "path": path}
        return self.call("GET", "/model-versions/get-artifact", params=params)

    def read_text_artifact(self, version: ModelVersion, path: str) -> str:
        """Return one text file of a version's model directory."""
        params = {"name": version.name, "version": version.version, "path": path}
        return str(self.call("GET", "/model-versions/get-artifact", params=params, text=True))

    def set_version_tag(self, version: ModelVersion, key: str, value: str) -> None:
        """Set a tag of a version."""
        body = {"name": version.name, "version": version.version, "key": key, "value": value}
        self.call("POST", f"{_API}/model-versions/set-tag", json=body)

    def delete_version_tag(self, version: ModelVersion, key: str) -> None:
        """Remove a tag of a version; it is well if it is not there."""
        body = {"name": version.name, "version": version.version, "key": key}
        try:
            self.call("DELETE", f"{_API}/model-versions/delete-tag", json=body)
        except NotFound:
            self.log.debug("Tag %s was not there.", key)

    def set_model_tag(self, model: str, key: str, value: str) -> None:
        """Set a tag of a registered model."""
        self.call("POST", f"{_API}/registered-models/set-tag", json={"name": model, "key": key, "value": value})

    def set_alias(self, model: str, alias: str, version: str) -> None:
        """Point an alias of a model to a version."""
        body = {"name": model, "alias": alias, "version": version}
        self.call("POST", f"{_API}/registered-models/alias", json=body)

    def page_url(self, version: ModelVersion) -> str:
        """Return the address of the version's page in MLflow's UI."""
        return f"{base_url(self.connection)}/#/models/{version.name}/versions/{version.version}"

    def tracking_client(self) -> MlflowClient:
        """Return MLflow's own client; importing it costs seconds, so only logging a model asks for it.

        MLflow reads credentials from the environment alone, so they are set there, in this task's process.
        """
        connection = self.connection
        if connection.login:
            os.environ["MLFLOW_TRACKING_USERNAME"] = connection.login
            os.environ["MLFLOW_TRACKING_PASSWORD"] = connection.password or ""
        elif connection.password:
            os.environ["MLFLOW_TRACKING_TOKEN"] = connection.password
        # Downloads and uploads log nothing: a progress bar in a task's log is a line a chunk.
        os.environ["MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR"] = "false"
        import mlflow

        mlflow.set_tracking_uri(base_url(connection))
        return mlflow.MlflowClient()

    def log_version(self, model: str, directory: Path, tags: dict[str, str]) -> ModelVersion:
        """Upload a model directory as a logged model, and register it as the newest version of `model`.

        The tags are on the version from its first moment, so a version is found by them or not there at all.
        What an earlier try of the same run (tag `slipway.run`) uploaded and did not register is removed.

        :raises Unavailable: if the server fails; the next try cleans up after this one.
        """
        client = self.tracking_client()
        from mlflow.exceptions import MlflowException

        try:
            experiment = _experiment_id(client)
            registered = {version.source for version in self.list_versions(model)}
            mine = f"tags.`{RUN_TAG}` = '{tags[RUN_TAG]}'"
            for leftover in client.search_logged_models([experiment], filter_string=mine):
                if not registered & {leftover.artifact_location, leftover.model_uri}:
                    client.delete_logged_model(leftover.model_id)
            logged = client.create_logged_model(experiment, name=model, tags=tags, model_type="slipway")
            client.log_model_artifacts(logged.model_id, str(directory))
            client.finalize_logged_model(logged.model_id, "READY")
        except (MlflowException, OSError) as e:
            raise Unavailable(
                f"MLflow could not take the model's files ({_one_line(e)}): see the server's log."
            ) from None
        try:
            self.call("POST", f"{_API}/registered-models/create", json={"name": model})
        except UserError as e:
            if e.code != "RESOURCE_ALREADY_EXISTS":
                raise
        return self._create_version(model, logged.artifact_location, logged.model_id, tags)

    def _create_version(self, model: str, source: str, model_id: str, tags: dict[str, str]) -> ModelVersion:
        """Create a version exactly once: after a fault it is looked for before anybody tries again."""
        body = {
            "name": model,
            "source": source,
            "model_id": model_id,
            "tags": [{"key": key, "value": value} for key, value in tags.items()],
        }
        try:
            answer = self.call("POST", f"{_API}/model-versions/create", json=body, idempotent=False)
        except Unavailable:
            made = next((v for v in self.list_versions(model) if v.source == source), None)
            if made is None:
                raise
            return made
        return _version(answer["model_version"])

    def download(self, model_uri: str, folder: Path) -> Path:
        """Download a model directory that an MLflow URI names, and return its path.

        :raises UserError: if there is none, or the URI is of a kind that is not taken: MLflow would send its
            credentials to whatever server an `http:` URI names, and read any folder of this machine.
        :raises Unavailable: if the download breaks.
        """
        parts = urlsplit(model_uri)
        if parts.scheme not in _MODEL_SCHEMES or (parts.netloc and parts.scheme in _SERVER_SCHEMES):
            raise UserError(
                f"model_uri '{model_uri}' is not one that is taken: give 'runs:/<run id>/model', 'models:/churn/3', or "
                f"a folder in an object store ({', '.join(sorted(_MODEL_SCHEMES - _SERVER_SCHEMES))})."
            )
        self.tracking_client()
        from mlflow.artifacts import download_artifacts
        from mlflow.exceptions import MlflowException

        try:
            return Path(download_artifacts(artifact_uri=model_uri, dst_path=str(folder)))
        except OSError as e:
            raise Unavailable(f"The download of '{model_uri}' broke ({_one_line(e)}).") from None
        except (MlflowException, ValueError) as e:
            if getattr(e, "error_code", "") in _PASSING_CODES:
                raise Unavailable(f"The download of '{model_uri}' broke ({_one_line(e)}).") from None
            raise UserError(
                f"MLflow cannot read a model at '{model_uri}' ({_one_line(e)}): "
                "give a URI such as 'runs:/<run id>/model' or 'models:/churn/3'."
            ) from None

    def _unknown_version(self, model: str, version: str, cause: UserError) -> UserError:
        self.get_model(model)
        known = [v.version for v in self.list_versions(model)]
        if version in known:
            return cause
        shown = ", ".join(known[:10]) + (", …" if len(known) > 10 else "")
        return NotFound(
            f"Model '{model}' has no version '{version}' (it has {shown or 'none'}): name one of these, or an alias."
        )


def _version(raw: dict[str, Any]) -> ModelVersion:
    return ModelVersion(
        name=raw["name"],
        version=str(raw["version"]),
        source=raw.get("source", ""),
        status=raw.get("status", "READY"),
        aliases=tuple(raw.get("aliases", ())),
        tags={tag["key"]: tag.get("value", "") for tag in raw.get("tags", [])},
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _experiment_id(client: MlflowClient) -> str:
    """Return the experiment that holds what Slipway logs; made when first needed."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        try:
            return str(client.create_experiment(EXPERIMENT))
        except MlflowException:  # another process made it first
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is None:
                raise
    return str(found.experiment_id)
