"""ECR whose registry is a real one: its address, its password, and what has been pushed to it."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Any

from slipway_sandbox.aws.protocol import AwsError
from slipway_sandbox.aws.registry import Registries, Registry
from slipway_sandbox.aws.settings import ACCOUNT

__all__ = ["Ecr"]

_TOKEN_SECONDS = 12 * 3600


class Ecr:
    """The calls that moto cannot answer, because it knows of no push; by the operation's name in `calls`."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries
        self.calls: dict[str, Callable[[Registry, dict[str, Any]], dict[str, Any]]] = {
            "GetAuthorizationToken": self._authorization,
            "DescribeImages": self._describe,
            "ListImages": self._list,
        }

    def answer(self, operation: str, region: str, params: dict[str, Any]) -> dict[str, Any]:
        """Answer one of `calls`."""
        return self.calls[operation](self._registries.of(region), params)

    def localised(self, body: bytes, region: str) -> bytes:
        """Replace the address of AWS's registry by this one's in one of moto's answers."""
        there = f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com"
        return body.replace(there.encode(), self._registries.of(region).host.encode())

    def _authorization(self, registry: Registry, params: dict[str, Any]) -> dict[str, Any]:  # noqa: ARG002
        login = registry.login
        token = base64.b64encode(f"{login.user}:{login.password}".encode()).decode()
        expires = time.time() + _TOKEN_SECONDS
        data = {"authorizationToken": token, "expiresAt": expires, "proxyEndpoint": registry.url}
        return {"authorizationData": [data]}

    def _images(self, registry: Registry, params: dict[str, Any]) -> dict[str, list[str]]:
        """Return each image's digest with its tags."""
        repository = params["repositoryName"]
        found: dict[str, list[str]] = {}
        for tag in registry.tags(repository):
            if digest := registry.digest(repository, tag):
                found.setdefault(digest, []).append(tag)
        return found

    def _describe(self, registry: Registry, params: dict[str, Any]) -> dict[str, Any]:
        images = self._images(registry, params)
        name = params["repositoryName"]
        for wanted in params.get("imageIds", []):
            tag, digest = wanted.get("imageTag"), wanted.get("imageDigest")
            images = {d: tags for d, tags in images.items() if d == digest or tag in tags}
            if not images:
                raise AwsError(
                    "ImageNotFoundException",
                    f"The image with imageId {wanted} does not exist within the repository with name '{name}' in the "
                    f"registry with id '{ACCOUNT}'",
                )
        details = [
            {"registryId": ACCOUNT, "repositoryName": name, "imageDigest": digest, "imageTags": tags}
            for digest, tags in images.items()
        ]
        return {"imageDetails": details}

    def _list(self, registry: Registry, params: dict[str, Any]) -> dict[str, Any]:
        images = self._images(registry, params)
        return {"imageIds": [{"imageDigest": d, "imageTag": tag} for d, tags in images.items() for tag in tags]}
