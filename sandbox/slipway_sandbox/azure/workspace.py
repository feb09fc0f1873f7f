"""The cloud's metadata, the workspace and its blob datastore.

Metadata: `GET /metadata/endpoints?api-version=2022-09-01`, as azure-ai-ml reads it (`_azure_environments.py`).
Workspaces and datastores: api-version 2025-12-01,
https://learn.microsoft.com/rest/api/azureml/workspaces/get and …/datastores/list-secrets.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from slipway_sandbox.azure.azurite import sas_token
from slipway_sandbox.azure.errors import not_found
from slipway_sandbox.azure.resources import WORKSPACE, resource
from slipway_sandbox.azure.settings import CLOUD, CONTAINER, LOCATION, STORAGE_SUFFIX, Settings

__all__ = ["Workspace"]

DATASTORE = "workspaceblobstore"


class Workspace:
    """The one workspace of this sandbox."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def routes(self) -> list[Route]:
        """Their routes."""
        return [
            Route("/metadata/endpoints", self._metadata),
            Route(WORKSPACE, self._workspace),
            Route(f"{WORKSPACE}/datastores", self._datastores),
            Route(f"{WORKSPACE}/datastores/{{name}}", self._datastore),
            Route(f"{WORKSPACE}/datastores/{{name}}/listSecrets", self._secrets, methods=["POST"]),
        ]

    def check(self, subscription: str, group: str, workspace: str) -> None:
        """Check that a path names this workspace.

        :raises ArmError: 404, as ARM says it.
        """
        known = self.settings
        if subscription != known.subscription:
            raise not_found("subscription", subscription)
        if group.lower() != known.resource_group or workspace.lower() != known.workspace:
            raise not_found("Resource 'Microsoft.MachineLearningServices/workspaces'", f"{group}/{workspace}")

    async def _metadata(self, request: Request) -> JSONResponse:  # noqa: ARG002
        url = self.settings.url
        cloud = {
            "name": CLOUD,
            "portal": "https://portal.azure.sandbox",
            "resourceManager": f"{url}/",
            "authentication": {"loginEndpoint": f"{url}/", "audiences": [f"{url}/"], "tenant": "common"},
            "suffixes": {"storage": STORAGE_SUFFIX, "acrLoginServer": "azurecr.sandbox"},
        }
        return JSONResponse([cloud])

    async def _workspace(self, request: Request) -> JSONResponse:  # noqa: ARG002
        known = self.settings
        properties = {
            "friendlyName": known.workspace,
            "provisioningState": "Succeeded",
            "workspaceId": "00000000-0000-4000-8000-00000000000d",
            "discoveryUrl": f"{known.url}/discovery",
            "mlFlowTrackingUri": f"azureml://127.0.0.1:{known.port}/mlflow/v1.0{known.workspace_id}",
            "storageAccount": f"/subscriptions/{known.subscription}/resourceGroups/{known.resource_group}"
            "/providers/Microsoft.Storage/storageAccounts/slipway",
        }
        body = {"location": LOCATION, "kind": "Default", "tags": {}, "properties": properties}
        return JSONResponse(resource(known.workspace_id, body, identity={"type": "SystemAssigned"}))

    def _blob_datastore(self) -> dict[str, Any]:
        properties = {
            "datastoreType": "AzureBlob",
            "accountName": self.settings.storage_account,
            "containerName": CONTAINER,
            "endpoint": STORAGE_SUFFIX,
            "protocol": "https",
            "isDefault": True,
            "serviceDataAccessAuthIdentity": "None",
            "credentials": {"credentialsType": "AccountKey"},
            "tags": {},
            "properties": {},
        }
        return resource(f"{self.settings.workspace_id}/datastores/{DATASTORE}", {"properties": properties})

    async def _datastores(self, request: Request) -> JSONResponse:  # noqa: ARG002
        return JSONResponse({"value": [self._blob_datastore()], "nextLink": None})

    async def _datastore(self, request: Request) -> JSONResponse:
        self._check_name(request)
        return JSONResponse(self._blob_datastore())

    async def _secrets(self, request: Request) -> JSONResponse:
        self._check_name(request)
        body = await request.json()
        if body.get("expirableSecret"):
            hours = float(body.get("expireAfterHours", 1))
            return JSONResponse({"secretsType": "Sas", "sasToken": sas_token(self.settings, hours)})
        return JSONResponse({"secretsType": "AccountKey", "key": self.settings.account_key})

    def _check_name(self, request: Request) -> None:
        if request.path_params["name"] != DATASTORE:
            raise not_found("datastore", request.path_params["name"])
