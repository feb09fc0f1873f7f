"""Online endpoints: create, traffic, keys and tokens, delete; api-version 2025-12-01
(https://learn.microsoft.com/rest/api/azureml/online-endpoints)."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slipway_sandbox.azure.errors import ArmError, not_found
from slipway_sandbox.azure.faults import Faults
from slipway_sandbox.azure.names import check_name, check_traffic
from slipway_sandbox.azure.operations import Operation, Operations
from slipway_sandbox.azure.resources import WORKSPACE, resource, touched
from slipway_sandbox.azure.runtime import Replica
from slipway_sandbox.azure.settings import Settings

__all__ = ["Deployment", "Endpoint", "Endpoints"]

PATH = f"{WORKSPACE}/onlineEndpoints"
BUSY = frozenset({"Creating", "Updating", "Deleting"})


@dataclass
class Deployment:
    """A deployment: its ARM resource, and what serves it."""

    resource: dict[str, Any]
    replica: Replica | None = None
    logs: dict[str, str] = field(default_factory=dict)
    operation: Operation | None = None

    @property
    def state(self) -> str:
        """Its provisioning state."""
        return str(self.resource["properties"]["provisioningState"])

    @state.setter
    def state(self, state: str) -> None:
        self.resource["properties"]["provisioningState"] = state


@dataclass
class Endpoint:
    """An endpoint: its ARM resource, its keys, its deployments."""

    resource: dict[str, Any]
    keys: dict[str, str] = field(
        default_factory=lambda: {"primaryKey": secrets.token_urlsafe(24), "secondaryKey": secrets.token_urlsafe(24)}
    )
    deployments: dict[str, Deployment] = field(default_factory=dict)

    @property
    def properties(self) -> dict[str, Any]:
        """The resource's properties."""
        properties: dict[str, Any] = self.resource["properties"]
        return properties

    @property
    def traffic(self) -> dict[str, int]:
        """Live traffic in percent."""
        return self.properties.get("traffic") or {}

    @property
    def mirror(self) -> dict[str, int]:
        """Mirrored traffic in percent."""
        return self.properties.get("mirrorTraffic") or {}

    def check_idle(self) -> None:
        """Check that no operation runs on the endpoint itself.

        :raises ArmError: 409.
        """
        if self.properties["provisioningState"] in BUSY:
            name, state = self.resource["name"], self.properties["provisioningState"]
            raise ArmError(409, "Conflict", f"Endpoint '{name}' is {state}: wait until the operation is over.")


class Endpoints:
    """All endpoints of the workspace."""

    def __init__(self, settings: Settings, operations: Operations, faults: Faults) -> None:
        self.settings = settings
        self.operations = operations
        self.faults = faults
        self.known: dict[str, Endpoint] = {}

    def routes(self) -> list[Route]:
        """Their routes."""
        one = f"{PATH}/{{endpoint}}"
        return [
            Route(PATH, self._list),
            Route(one, self._get, methods=["GET"]),
            Route(one, self._put, methods=["PUT"]),
            Route(one, self._patch, methods=["PATCH"]),
            Route(one, self._delete, methods=["DELETE"]),
            Route(f"{one}/listKeys", self._keys, methods=["POST"]),
            Route(f"{one}/regenerateKeys", self._regenerate, methods=["POST"]),
            Route(f"{one}/token", self._token, methods=["POST"]),
        ]

    def find(self, request: Request) -> Endpoint:
        """Return the endpoint that a path names.

        :raises ArmError: 404.
        """
        name = request.path_params["endpoint"]
        if name not in self.known:
            raise not_found("online endpoint", name)
        return self.known[name]

    async def _list(self, request: Request) -> JSONResponse:  # noqa: ARG002
        return JSONResponse({"value": [endpoint.resource for endpoint in self.known.values()]})

    async def _get(self, request: Request) -> JSONResponse:
        return JSONResponse(self.find(request).resource)

    async def _put(self, request: Request) -> JSONResponse:
        name = request.path_params["endpoint"]
        check_name("endpoint", name)
        body = await request.json()
        found = self.known.get(name)
        if found is None:
            if self.faults.take("name_taken", name):
                raise ArmError(409, "Conflict", f"An endpoint with the name '{name}' exists already in this region.")
            endpoint = Endpoint(self._new(name, body))
            self.known[name] = endpoint
        else:
            endpoint = found
            endpoint.check_idle()
            self._update(endpoint, body)
        state = "Updating" if found else "Creating"
        endpoint.properties["provisioningState"] = state
        operation = self.operations.start(self._settle(endpoint, body))
        return JSONResponse(endpoint.resource, 200 if found else 201, self.operations.headers(operation))

    async def _patch(self, request: Request) -> Response:
        endpoint = self.find(request)
        endpoint.check_idle()
        endpoint.resource = touched({**endpoint.resource, **read_patch(await request.json())})
        endpoint.properties["provisioningState"] = "Updating"
        operation = self.operations.start(self._settle(endpoint, endpoint.resource))
        return Response(status_code=202, headers=self.operations.headers(operation, location=True))

    def _new(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        given = body.get("properties", {})
        # Keys come with the body of a create and are never in an answer.
        properties = {
            "traffic": {}, "mirrorTraffic": {}, "publicNetworkAccess": "Enabled",
            **{key: value for key, value in given.items() if key != "keys"},
            "scoringUri": f"{self.settings.url}/inference/{name}/score",
            "swaggerUri": f"{self.settings.url}/inference/{name}/swagger.json",
        }  # fmt: skip
        identity = body.get("identity") or {"type": "SystemAssigned"}
        if identity["type"] == "SystemAssigned":
            identity = {**identity, "principalId": "0", "tenantId": self.settings.tenant}
        path = f"{self.settings.workspace_id}/onlineEndpoints/{name}"
        return resource(path, {**body, "properties": properties}, identity=identity, kind="Managed")

    def _update(self, endpoint: Endpoint, body: dict[str, Any]) -> None:
        given = body.get("properties", {})
        ready = {name for name, deployment in endpoint.deployments.items() if deployment.state == "Succeeded"}
        check_traffic(given.get("traffic") or {}, given.get("mirrorTraffic") or {}, ready)
        if given.get("authMode", endpoint.properties["authMode"]).lower() != endpoint.properties["authMode"].lower():
            raise ArmError(400, "BadRequest", "The authentication mode of an endpoint cannot be changed.")
        _check_identity(endpoint, body)
        endpoint.resource = touched({**endpoint.resource, "tags": body.get("tags", {})})

    async def _settle(self, endpoint: Endpoint, body: dict[str, Any]) -> None:
        await asyncio.sleep(self.settings.pace)
        given = body.get("properties", {})
        endpoint.properties["traffic"] = dict(given.get("traffic") or {})
        endpoint.properties["mirrorTraffic"] = dict(given.get("mirrorTraffic") or {})
        endpoint.properties["provisioningState"] = "Succeeded"

    async def _delete(self, request: Request) -> Response:
        name = request.path_params["endpoint"]
        if name not in self.known:
            return Response(status_code=204)
        endpoint = self.known[name]
        endpoint.check_idle()
        endpoint.properties["provisioningState"] = "Deleting"
        operation = self.operations.start(self._remove(name, endpoint))
        return Response(status_code=202, headers=self.operations.headers(operation, location=True))

    async def _remove(self, name: str, endpoint: Endpoint) -> None:
        await asyncio.sleep(self.settings.pace)
        for deployment in endpoint.deployments.values():
            await self.operations.override(deployment.operation)
            if deployment.replica:
                await asyncio.to_thread(deployment.replica.stop)
        del self.known[name]

    async def _keys(self, request: Request) -> JSONResponse:
        endpoint = self.find(request)
        _check_mode(endpoint, "key")
        return JSONResponse(endpoint.keys)

    async def _regenerate(self, request: Request) -> Response:
        endpoint = self.find(request)
        _check_mode(endpoint, "key")
        asked = await request.json()
        which = f"{asked['keyType'].lower()}Key"
        endpoint.keys[which] = asked.get("keyValue") or secrets.token_urlsafe(24)
        return Response(status_code=200)

    async def _token(self, request: Request) -> JSONResponse:
        endpoint = self.find(request)
        _check_mode(endpoint, "amltoken")
        now = int(time.time())
        token = {"accessToken": endpoint.keys["primaryKey"], "tokenType": "Bearer"}
        return JSONResponse({**token, "expiryTimeUtc": now + 3600, "refreshAfterTimeUtc": now + 3000})


def read_patch(body: dict[str, Any], *more: str) -> dict[str, Any]:
    """Return what a PATCH changes; tags are replaced as a whole.

    :param more: what may be changed beside the tags.
    :raises ArmError: 400, for anything else.
    """
    if unknown := set(body) - {"tags", *more}:
        raise ArmError(400, "BadRequest", f"A PATCH cannot change {', '.join(sorted(unknown))}.")
    return body


def _check_identity(endpoint: Endpoint, body: dict[str, Any]) -> None:
    """Check that an update leaves the identity as it is.

    https://learn.microsoft.com/azure/machine-learning/how-to-access-resources-from-endpoints-managed-identities#limitations
    """
    has, asked = endpoint.resource["identity"], body.get("identity") or endpoint.resource["identity"]
    if asked["type"] != has["type"] or set(asked.get("userAssignedIdentities") or ()) != set(
        has.get("userAssignedIdentities") or ()
    ):
        raise ArmError(400, "BadRequest", "The identity of an endpoint cannot be changed.")


def _check_mode(endpoint: Endpoint, mode: str) -> None:
    if endpoint.properties["authMode"].lower() != mode:
        raise ArmError(400, "BadRequest", f"The endpoint's authentication mode is {endpoint.properties['authMode']}.")
