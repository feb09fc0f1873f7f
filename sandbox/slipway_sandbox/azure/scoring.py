"""The scoring URI: checks key or token, picks a deployment by the header or by traffic share, mirrors.

What clients see: https://learn.microsoft.com/azure/machine-learning/how-to-authenticate-online-endpoint and
https://learn.microsoft.com/azure/machine-learning/how-to-troubleshoot-online-endpoints#http-status-codes.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress

import httpx
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from slipway_sandbox.azure.endpoints import Deployment, Endpoint, Endpoints
from slipway_sandbox.azure.errors import ArmError
from slipway_sandbox.azure.login import Login

__all__ = ["AAD_AUDIENCE", "Scoring"]

AAD_AUDIENCE = "https://ml.azure.com"
HEADER = "azureml-model-deployment"
_PASSED = ("content-type", "accept")


class Scoring:
    """The front of all endpoints."""

    def __init__(self, endpoints: Endpoints, login: Login) -> None:
        self.endpoints = endpoints
        self.login = login
        self._client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=64))
        self._mirrored: set[asyncio.Task[None]] = set()
        self.mirrored_requests = 0

    def routes(self) -> list[Route]:
        """Their routes."""
        return [Route("/inference/{endpoint}/score", self._score, methods=["POST"])]

    async def close(self) -> None:
        """Give up connections."""
        await self._client.aclose()

    async def _score(self, request: Request) -> Response:
        endpoint = self.endpoints.known.get(request.path_params["endpoint"])
        if endpoint is None or endpoint.properties["provisioningState"] in {"Creating", "Deleting"}:
            return PlainTextResponse("Not found", 404)
        if not self._allowed(endpoint, request.headers.get("authorization", "")):
            return PlainTextResponse("key_auth_access_denied", 401)
        asked = request.headers.get(HEADER)
        name = asked or _by_share(endpoint.traffic)
        deployment = endpoint.deployments.get(name) if name else None
        if deployment is None or deployment.replica is None or deployment.state in {"Failed", "Deleting"}:
            return PlainTextResponse(
                "Specified deployment could not be found" if asked else "No valid deployments", 404
            )
        body = await request.body()
        headers = {key: value for key in _PASSED if (value := request.headers.get(key))}
        if not asked:
            self._mirror(endpoint, body, headers)
        return await self._forward(str(name), deployment, body, headers)

    def _allowed(self, endpoint: Endpoint, authorization: str) -> bool:
        if endpoint.properties["authMode"].lower() != "aadtoken":
            return authorization in {f"Bearer {key}" for key in endpoint.keys.values()}
        try:
            self.login.check(authorization, AAD_AUDIENCE)
        except ArmError:
            return False
        return True

    async def _forward(self, name: str, deployment: Deployment, body: bytes, headers: dict[str, str]) -> Response:
        assert deployment.replica is not None  # noqa: S101  # the caller looked
        try:
            answer = await self._client.post(deployment.replica.scoring_url, content=body, headers=headers)
        except httpx.TransportError as e:
            return PlainTextResponse(f"upstream failed: {type(e).__name__}", 502)
        kept = {HEADER: name, "content-type": answer.headers.get("content-type", "application/json")}
        if answer.is_success:
            return Response(answer.content, 200, kept)
        # A model's own errors come as 424, with what it said in headers.
        kept["ms-azureml-model-error-statuscode"] = str(answer.status_code)
        kept["ms-azureml-model-error-reason"] = "model_error"
        return Response(answer.content, 424, kept)

    def _mirror(self, endpoint: Endpoint, body: bytes, headers: dict[str, str]) -> None:
        for name, share in endpoint.mirror.items():
            deployment = endpoint.deployments.get(name)
            if deployment and deployment.replica and random.random() * 100 < share:
                task = asyncio.create_task(self._copy(name, deployment, body, headers))
                self._mirrored.add(task)
                task.add_done_callback(self._mirrored.discard)

    async def _copy(self, name: str, deployment: Deployment, body: bytes, headers: dict[str, str]) -> None:
        with suppress(httpx.HTTPError):
            await self._forward(name, deployment, body, headers)
        self.mirrored_requests += 1


def _by_share(traffic: dict[str, int]) -> str | None:
    names = [name for name, share in traffic.items() if share]
    return random.choices(names, [traffic[name] for name in names])[0] if names else None
