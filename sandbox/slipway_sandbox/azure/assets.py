"""Model and environment assets: containers with immutable versions, api-version 2025-12-01
(https://learn.microsoft.com/rest/api/azureml/model-versions/create-or-update, …/environment-versions/…)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slipway_sandbox.azure.errors import ArmError, not_found
from slipway_sandbox.azure.resources import WORKSPACE, resource, touched
from slipway_sandbox.azure.settings import Settings

__all__ = ["Assets"]

# What makes a version what it is: a second PUT must not change it.
_IDENTITY = {"models": "modelUri", "environments": "image"}


class Assets:
    """All assets of the workspace, by kind, name and version."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.versions: dict[tuple[str, str, str], dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        """Their routes."""
        kind = f"{WORKSPACE}/{{kind:asset}}"
        return [
            Route(kind, self._containers),
            Route(f"{kind}/{{name}}", self._container),
            Route(f"{kind}/{{name}}/versions", self._list),
            Route(f"{kind}/{{name}}/versions/{{version}}", self._version, methods=["GET", "PUT", "DELETE"]),
        ]

    def find(self, identity: str) -> dict[str, Any]:
        """Return the asset with an ARM id, also one with `azureml:` before it.

        :raises ArmError: 404.
        """
        parts = identity.removeprefix("azureml:").split("/")
        found = self.versions.get((parts[-4], parts[-3], parts[-1])) if len(parts) > 4 else None
        if found is None:
            raise not_found("asset", identity)
        return found

    def _of(self, kind: str, name: str | None = None) -> list[dict[str, Any]]:
        # Newest first, as the service lists them.
        found = [v for (k, n, _), v in self.versions.items() if k == kind and name in {None, n}]
        return found[::-1]

    def _as_container(self, kind: str, name: str) -> dict[str, Any]:
        versions = self._of(kind, name)
        if not versions:
            raise not_found(f"{kind[:-1]} container", name)
        properties = {"latestVersion": versions[0]["name"], "isArchived": False, "tags": {}, "properties": {}}
        return resource(f"{self.settings.workspace_id}/{kind}/{name}", {"properties": properties})

    async def _containers(self, request: Request) -> JSONResponse:
        kind = request.path_params["kind"]
        names = {name for k, name, _ in self.versions if k == kind}
        return JSONResponse({"value": [self._as_container(kind, name) for name in sorted(names)]})

    async def _container(self, request: Request) -> JSONResponse:
        return JSONResponse(self._as_container(request.path_params["kind"], request.path_params["name"]))

    async def _list(self, request: Request) -> JSONResponse:
        return JSONResponse({"value": self._of(request.path_params["kind"], request.path_params["name"])})

    async def _version(self, request: Request) -> Response:
        kind, name, version = (request.path_params[key] for key in ("kind", "name", "version"))
        key = (kind, name, version)
        found = self.versions.get(key)
        if request.method == "PUT":
            return self._put(key, found, await request.json())
        if found is None:
            raise not_found(f"{kind[:-1]} version", f"{name}:{version}")
        if request.method == "DELETE":
            del self.versions[key]
            return Response(status_code=200)
        return JSONResponse(found)

    def _put(self, key: tuple[str, str, str], found: dict[str, Any] | None, body: dict[str, Any]) -> JSONResponse:
        kind, name, version = key
        identity = f"{self.settings.workspace_id}/{kind}/{name}/versions/{version}"
        fixed = _IDENTITY[kind]
        if found and found["properties"].get(fixed) != body["properties"].get(fixed):
            raise ArmError(409, "UserError", f"A {kind[:-1]} '{name}' with version '{version}' exists already.")
        made = {"provisioningState": "Succeeded", "isArchived": False}
        empty: dict[str, Any] = {"tags": {}, "properties": {}, **({"flavors": {}} if kind == "models" else {})}
        properties = {**empty, **body["properties"], **made}
        self.versions[key] = (
            touched({**found, "properties": properties}) if found else resource(identity, {"properties": properties})
        )
        return JSONResponse(self.versions[key], 200 if found else 201)
