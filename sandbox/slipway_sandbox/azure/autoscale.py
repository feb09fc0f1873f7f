"""Azure Monitor's autoscale settings, api-version 2022-10-01: kept, and gone with what they scale
(https://learn.microsoft.com/rest/api/monitor/autoscale-settings)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slipway_sandbox.azure.errors import ArmError, not_found

__all__ = ["Autoscale"]

PATH = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Insights/autoscalesettings/{name}"


class Autoscale:
    """All autoscale settings of the subscription."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}

    def routes(self) -> list[Route]:
        """Their routes."""
        return [Route(PATH, self._one, methods=["GET", "PUT", "DELETE"])]

    async def _one(self, request: Request) -> Response:
        name = request.path_params["name"]
        if request.method == "PUT":
            body = await request.json()
            for profile in body["properties"]["profiles"]:
                capacity = {key: int(value) for key, value in profile["capacity"].items()}
                if not capacity["minimum"] <= capacity["default"] <= capacity["maximum"]:
                    raise ArmError(400, "InvalidProfile", "The default capacity is not between minimum and maximum.")
            found = name in self.known
            more = {"id": request.url.path, "name": name, "type": "Microsoft.Insights/autoscaleSettings"}
            self.known[name] = {**body, **more}
            return JSONResponse(self.known[name], 200 if found else 201)
        if request.method == "DELETE":
            return Response(status_code=200 if self.known.pop(name, None) else 204)
        if name not in self.known:
            raise not_found("autoscale setting", name)
        return JSONResponse(self.known[name])
