"""The head of every deploy: which version, which endpoint, and what the deployment is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import naming
from slipway.hooks.mlflow import MlflowHook
from slipway.operators.base import SlipwayOperator
from slipway.registry import LOCK_TAG, Registry

__all__ = ["ResolveDeploymentOperator", "ResolveVersionOperator"]


class ResolveVersionOperator(SlipwayOperator):
    """Find the version that is to be deployed and name its deployment.

    Returns the plan that later tasks take: `model`, `version`, `endpoint`, `target`, `conn_id`, `deployment`, and
    `spec`, all that the deployment is: `model`, `version`, `model_uri`, `artifact_uri`, `lock_digest` and the
    target's own options. The deployment is named after the spec's digest. What is in `further` comes on top.

    :param model: registered model.
    :param version: its version; or
    :param alias: one of its aliases; by default the newest version.
    :param endpoint: the endpoint's name; by default the model's.
    :param target: where the endpoint lives.
    :param conn_id: the target's connection.
    :param options: the target's own settings; they are part of the deployment's identity.
    :param further: settings that may change without a new deployment, by their name in the plan.
    """

    template_fields: Sequence[str] = ("model", "version", "alias", "endpoint", "conn_id", "options", "further")

    def __init__(
        self,
        *,
        model: Any,
        target: str,
        conn_id: Any,
        version: Any = None,
        alias: Any = None,
        endpoint: Any = None,
        options: dict[str, Any] | None = None,
        further: dict[str, Any] | None = None,
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.version = version
        self.alias = alias
        self.endpoint = endpoint
        self.target = target
        self.conn_id = conn_id
        self.options = options or {}
        self.further = further or {}
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the plan.

        :raises UserError: if a name is not allowed, or the model, version or alias does not exist.
        """
        endpoint = naming.check_endpoint(self.endpoint) if self.endpoint else naming.default_endpoint(self.model)
        registry = Registry(MlflowHook(self.mlflow_conn_id))
        version = registry.resolve(self.model, self.version, self.alias)
        lock_digest = version.tags.get(LOCK_TAG) or registry.manifest(version).lock_digest
        spec = {
            "model": version.name,
            "version": version.version,
            "model_uri": version.uri,
            "artifact_uri": registry.mlflow.artifact_uri(version),
            "lock_digest": lock_digest,
            **self.options,
        }
        plan = {
            **self.further,
            "model": version.name,
            "version": version.version,
            "endpoint": endpoint,
            "target": self.target,
            "conn_id": self.conn_id,
            "deployment": naming.deployment_id(version.version, spec),
            "spec": spec,
        }
        self.log.info(
            "Version %s of model '%s' is to serve endpoint '%s' on %s as deployment %s.",
            version.version,
            version.name,
            endpoint,
            self.target,
            plan["deployment"],
        )
        return plan


class ResolveDeploymentOperator(SlipwayOperator):
    """The head of every undeploy: check the names, and look up the record.

    Returns `model`, `endpoint`, `target`, `conn_id` and `record`, what MLflow says the endpoint serves.

    :param model: registered model.
    :param endpoint: the endpoint's name; by default the model's.
    """

    template_fields: Sequence[str] = ("model", "endpoint", "conn_id")

    def __init__(
        self,
        *,
        model: Any,
        target: str,
        conn_id: Any,
        endpoint: Any = None,
        mlflow_conn_id: str = "mlflow_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.model = model
        self.endpoint = endpoint
        self.target = target
        self.conn_id = conn_id
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return what is to be undeployed.

        A model that has been deleted from MLflow can still be undeployed, so it need not be registered.

        :raises UserError: if a name is not allowed.
        """
        naming.check_model(self.model)
        endpoint = naming.check_endpoint(self.endpoint) if self.endpoint else naming.default_endpoint(self.model)
        registry = Registry(MlflowHook(self.mlflow_conn_id))
        record = registry.find_deployment(self.model, self.target, endpoint)
        return {
            "model": self.model,
            "endpoint": endpoint,
            "target": self.target,
            "conn_id": self.conn_id,
            "record": record.model_dump(mode="json") if record else None,
        }
