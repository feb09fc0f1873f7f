"""Managed online deployments: provisioning, logs, delete; api-version 2025-12-01
(https://learn.microsoft.com/rest/api/azureml/online-deployments).

Errors and their codes: https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints.
"""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slipway_sandbox.azure.assets import Assets
from slipway_sandbox.azure.endpoints import BUSY, PATH, Deployment, Endpoint, Endpoints, read_patch
from slipway_sandbox.azure.errors import ArmError, not_found
from slipway_sandbox.azure.names import CORES, check_name
from slipway_sandbox.azure.resources import resource, touched
from slipway_sandbox.azure.runtime import CrashedError, PullError, Replica, Runtime

__all__ = ["Deployments"]

_PROBE = {"failureThreshold": 30, "initialDelay": "PT10S", "period": "PT10S", "successThreshold": 1, "timeout": "PT2S"}
# What the service fills in (https://learn.microsoft.com/azure/machine-learning/reference-yaml-deployment-managed-online).
_DEFAULTS: dict[str, Any] = {
    "endpointComputeType": "Managed",
    "scaleSettings": {"scaleType": "Default"},
    "requestSettings": {"maxConcurrentRequestsPerInstance": 1, "maxQueueWait": "PT0.5S", "requestTimeout": "PT5S"},
    "livenessProbe": _PROBE,
    "readinessProbe": _PROBE,
    "egressPublicNetworkAccess": "Enabled",
    "properties": {},
}


class Deployments:
    """The deployments of all endpoints."""

    def __init__(self, endpoints: Endpoints, assets: Assets, runtime: Runtime) -> None:
        self.endpoints = endpoints
        self.settings = endpoints.settings
        self.faults = endpoints.faults
        self.operations = endpoints.operations
        self.assets = assets
        self.runtime = runtime

    def routes(self) -> list[Route]:
        """Their routes."""
        every = f"{PATH}/{{endpoint}}/deployments"
        one = f"{every}/{{deployment}}"
        return [
            Route(every, self._list),
            Route(one, self._get, methods=["GET"]),
            Route(one, self._put, methods=["PUT"]),
            Route(one, self._patch, methods=["PATCH"]),
            Route(one, self._delete, methods=["DELETE"]),
            Route(f"{one}/getLogs", self._logs, methods=["POST"]),
        ]

    def _find(self, request: Request) -> Deployment:
        name = request.path_params["deployment"]
        found = self.endpoints.find(request).deployments.get(name)
        if found is None:
            raise not_found("online deployment", name)
        return found

    async def _list(self, request: Request) -> JSONResponse:
        deployments = self.endpoints.find(request).deployments.values()
        return JSONResponse({"value": [deployment.resource for deployment in deployments]})

    async def _get(self, request: Request) -> JSONResponse:
        return JSONResponse(self._find(request).resource)

    async def _put(self, request: Request) -> JSONResponse:
        endpoint = self.endpoints.find(request)
        endpoint.check_idle()
        name = request.path_params["deployment"]
        check_name("deployment", name)
        found = endpoint.deployments.get(name)
        if found and found.state in BUSY:
            raise ArmError(409, "Conflict", f"Deployment '{name}' is {found.state}: wait until the operation is over.")
        body = await request.json()
        given = {key: value for key, value in body["properties"].items() if value is not None}
        properties = {**_DEFAULTS, **given, "provisioningState": "Updating" if found else "Creating"}
        path = f"{self.settings.workspace_id}/onlineEndpoints/{request.path_params['endpoint']}/deployments/{name}"
        made = Deployment(resource(path, {**body, "properties": properties}, kind="Managed"))
        made.replica = found.replica if found else None
        endpoint.deployments[name] = made
        made.operation = operation = self.operations.start(self._provision(name, made))
        return JSONResponse(made.resource, 200 if found else 201, self.operations.headers(operation))

    async def _patch(self, request: Request) -> Response:
        """Change tags or capacity; what runs is not replaced."""
        self.endpoints.find(request).check_idle()
        found = self._find(request)
        if found.state in BUSY:
            raise ArmError(409, "Conflict", f"The deployment is {found.state}: wait until the operation is over.")
        found.resource = touched({**found.resource, **read_patch(await request.json(), "sku")})
        found.state = "Updating"
        found.operation = operation = self.operations.start(self._settle(found))
        return Response(status_code=202, headers=self.operations.headers(operation, location=True))

    async def _settle(self, deployment: Deployment) -> None:
        await asyncio.sleep(self.settings.pace)
        deployment.state = "Succeeded"

    async def _provision(self, name: str, deployment: Deployment) -> None:
        old = deployment.replica
        try:
            if self.faults.take("stuck", name):
                await asyncio.Event().wait()
            await asyncio.sleep(self.settings.pace)
            self._check_quota(name, deployment)
            deployment.replica = await self._start(name, deployment)
        except ArmError:
            deployment.state = "Failed"
            raise
        deployment.state = "Succeeded"
        if old:
            await asyncio.to_thread(old.stop)

    def _check_quota(self, name: str, deployment: Deployment) -> None:
        kind = deployment.resource["properties"].get("instanceType", "Standard_F4s_v2")
        if kind.lower() not in CORES:
            raise ArmError(400, "BadArgument", f"The instance type '{kind}' is not supported in this region.")
        used = sum(
            CORES.get(other.resource["properties"].get("instanceType", "").lower(), 0)
            * other.resource.get("sku", {}).get("capacity", 1)
            for endpoint in self.endpoints.known.values()
            for other in endpoint.deployments.values()
            if other.state != "Failed"
        )
        if used > self.settings.cores or self.faults.take("quota", name):
            raise ArmError(
                400,
                "OutOfQuota",
                f"Not enough quota available for {kind}: {used} of {self.settings.cores} cores asked.",
            )

    async def _start(self, name: str, deployment: Deployment):  # type: ignore[no-untyped-def]
        properties = deployment.resource["properties"]
        model = self.assets.find(properties["model"])
        environment = self.assets.find(properties["environmentId"])
        image = environment["properties"].get("image")
        if self.faults.take("image_pull", name):
            image = f"{image}-is-not-there"
        broken = self.faults.take("liveness", name) is not None
        variables = properties.get("environmentVariables") or {}
        starting = asyncio.ensure_future(
            asyncio.to_thread(self.runtime.start, model, environment, image, variables, broken)
        )
        try:
            return await asyncio.shield(starting)
        except asyncio.CancelledError:
            starting.add_done_callback(_stop_when_up)
            raise
        except PullError as e:
            deployment.logs["StorageInitializer"] = str(e)
            raise ArmError(400, "BadArgument", f"Unable to download user container image: {e}") from None
        except CrashedError as e:
            deployment.logs["InferenceServer"] = e.logs
            raise ArmError(
                400, "ResourceNotReady", "User container has crashed or terminated: Liveness probe failed."
            ) from None

    async def _delete(self, request: Request) -> Response:
        endpoint = self.endpoints.find(request)
        endpoint.check_idle()
        name = request.path_params["deployment"]
        found = endpoint.deployments.get(name)
        if found is None:
            return Response(status_code=204)
        if endpoint.traffic.get(name) or endpoint.mirror.get(name):
            raise ArmError(400, "BadRequest", f"Deployment '{name}' takes traffic: set it to 0 before it is deleted.")
        if found.state == "Deleting":
            raise ArmError(409, "Conflict", f"Deployment '{name}' is Deleting.")
        await self.operations.override(found.operation)
        found.state = "Deleting"
        operation = self.operations.start(self._remove(name, endpoint, found))
        return Response(status_code=202, headers=self.operations.headers(operation, location=True))

    async def _remove(self, name: str, endpoint: Endpoint, deployment: Deployment) -> None:
        await asyncio.sleep(self.settings.pace)
        if deployment.replica:
            await asyncio.to_thread(deployment.replica.stop)
        endpoint.deployments.pop(name, None)

    async def _logs(self, request: Request) -> JSONResponse:
        deployment = self._find(request)
        asked: dict[str, Any] = await request.json()
        kind = asked.get("containerType") or "InferenceServer"
        logs = deployment.logs.get(kind, "")
        if kind == "InferenceServer" and deployment.replica:
            logs = deployment.replica.logs()
        lines = logs.splitlines()[-int(asked.get("tail") or 1000) :]
        return JSONResponse({"content": "\n".join(lines)})


def _stop_when_up(starting: asyncio.Future[Replica]) -> None:
    if not starting.cancelled() and starting.exception() is None:
        starting.result().stop()
