"""What azure-ai-ml makes: the model and environment assets, the endpoint, the deployment.

Importing azure-ai-ml costs seconds, so only the task that creates something imports this module's functions' needs.
"""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.azureml import names
from slipway.azureml.failures import explain, one_line
from slipway.azureml.workspace import Workspace
from slipway.errors import UserError

if TYPE_CHECKING:
    from azure.ai.ml import MLClient

__all__ = ["PORT", "MlClient"]

PORT = 5001  # where the scoring image listens for AzureML

_RETRIES: dict[str, Any] = {"retry_total": 4, "retry_backoff_max": 10}


class MlClient:
    """azure-ai-ml's client of one workspace; each method creates one thing, or leaves the one that is there."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._operation: str | None = None
        self._client = self._connect()

    def ensure_model(self, plan: dict[str, Any], directory: Path) -> str:
        """Upload a model directory and register it as a model asset; return its ARM id."""
        from azure.ai.ml.constants import AssetTypes
        from azure.ai.ml.entities import Model

        spec = plan["spec"]
        model = Model(
            name=plan["model"],
            version=names.model_version(spec),
            path=str(directory),
            # Not MLFLOW_MODEL, for which Azure would insist on its own server.
            type=AssetTypes.CUSTOM_MODEL,
            description=f"{spec['model_uri']} of MLflow",
            tags={names.MODEL: plan["model"], names.VERSION: plan["version"]},
        )
        return str(self._do(lambda: self._client.models.create_or_update(model).id))

    def ensure_environment(self, plan: dict[str, Any], image: str) -> str:
        """Register the scoring image with its routes as an environment asset; return its ARM id."""
        from azure.ai.ml.entities import Environment

        routes = {"liveness_route": "/", "readiness_route": "/ready", "scoring_route": "/score"}
        environment = Environment(
            name=names.ENVIRONMENT,
            version=names.environment_version(image),
            image=image,
            inference_config={route: {"port": PORT, "path": path} for route, path in routes.items()},
            tags={names.LOCK: plan["spec"]["lock_digest"]},
        )
        return str(self._do(lambda: self._client.environments.create_or_update(environment).id))

    def begin_endpoint(self, plan: dict[str, Any], tags: dict[str, str]) -> str | None:
        """Begin to create the endpoint; return the URL of the operation.

        :param tags: of this run, beside those of the plan.
        """
        from azure.ai.ml.entities import IdentityConfiguration, ManagedIdentityConfiguration, ManagedOnlineEndpoint

        identity = None  # Azure makes one for the endpoint
        if asked := plan.get("identity"):
            identity = IdentityConfiguration(
                type="user_assigned", user_assigned_identities=[ManagedIdentityConfiguration(resource_id=asked)]
            )
        endpoint = ManagedOnlineEndpoint(
            name=plan["endpoint"],
            auth_mode=plan["spec"]["auth_mode"],
            identity=identity,
            description=f"Model {plan['model']}, deployed by Slipway",
            tags={**(plan.get("tags") or {}), names.MODEL: plan["model"], **tags},
        )
        self._operation = None
        self._do(lambda: self._client.online_endpoints.begin_create_or_update(endpoint))
        return self._operation

    def begin_deployment(self, plan: dict[str, Any], model: str, environment: str, tags: dict[str, str]) -> str | None:
        """Begin to create the deployment; return the URL of the operation.

        :param model: ARM id of the model asset.
        :param environment: ARM id of the environment asset.
        :param tags: of this run, beside those of the plan.
        """
        from azure.ai.ml.entities import ManagedOnlineDeployment, OnlineRequestSettings

        spec = plan["spec"]
        deployment = ManagedOnlineDeployment(
            name=plan["deployment"],
            endpoint_name=plan["endpoint"],
            model=model,
            environment=environment,
            instance_type=spec["instance_type"],
            instance_count=spec["instance_count"],
            environment_variables=spec.get("environment") or {},
            # The scoring server queues and batches by itself: with Azure's default of 1 it would never get to.
            request_settings=OnlineRequestSettings(max_concurrent_requests_per_instance=256, request_timeout_ms=60_000),
            tags={**(plan.get("tags") or {}), **names.tags_of(plan), **tags},
        )
        self._operation = None
        self._do(lambda: self._client.online_deployments.begin_create_or_update(deployment))
        return self._operation

    def _connect(self) -> MLClient:
        # What it says of each step and each request (colours, headers, experimental classes) is noise in a task's log.
        logging.getLogger("azure").setLevel(logging.ERROR)
        from azure.ai.ml import MLClient

        workspace = self.workspace
        return MLClient(
            workspace.credential(),
            workspace.subscription_id,
            workspace.resource_group,
            workspace.name,
            cloud=workspace.cloud_name,
            show_progress=False,
            enable_telemetry=False,
            raw_response_hook=self._note,
            **_RETRIES,
        )

    def _note(self, response: Any) -> None:
        """Remember the operation that a request began: pollers keep its address to themselves."""
        if response.http_request.method == "PUT":
            self._operation = response.http_response.headers.get("Azure-AsyncOperation") or self._operation

    def _do(self, call: Any) -> Any:
        from azure.ai.ml.exceptions import MlException
        from azure.core.exceptions import AzureError

        try:
            return call()
        except MlException as e:  # before AzureError, of which it is one
            # Its reasons are lines of their own in a coloured page of advice.
            reasons = "; ".join(re.findall(r"\(x\) ([^\x1b\n]+)", str(e.message))) or one_line(e.message)
            raise UserError(f"azure-ai-ml refuses this ({reasons.rstrip('.')}): correct the request.") from None
        except AzureError as e:
            raise explain(e, self.workspace.conn_id) from None
