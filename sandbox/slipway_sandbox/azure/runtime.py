"""What Azure does between accepting a deployment and its first answer: fetch the model, start the server, probe it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from slipway_sandbox import serving
from slipway_sandbox.azure.azurite import blob_service
from slipway_sandbox.azure.settings import CONTAINER, Settings
from slipway_sandbox.azure.tls import Certificates

__all__ = ["CrashedError", "PullError", "Replica", "Runtime"]

_START_SECONDS = 240.0
_POLL_SECONDS = 0.1
_MOUNT = "/var/azureml-app/azureml-models"


class PullError(Exception):
    """The image cannot be had."""


class CrashedError(Exception):
    """The container does not become alive."""

    def __init__(self, logs: str) -> None:
        super().__init__("the container does not become alive")
        self.logs = logs


class Replica:
    """A scoring server of a deployment. One serves for all instances: shares are by deployment, not by instance."""

    def __init__(self, server: serving.Server, scoring_path: str) -> None:
        self._server = server
        self.scoring_url = f"{server.url}{scoring_path}"

    def logs(self) -> str:
        """All that the container wrote."""
        return "\n".join(self._server.logs())

    def stop(self) -> None:
        """End it."""
        self._server.stop()


class Runtime:
    """Starts scoring servers from assets."""

    def __init__(self, settings: Settings, certificates: Certificates) -> None:
        self.settings = settings
        self.certificates = certificates
        self._folder = settings.home / "servers"
        serving.end_leftovers(self._folder)

    def start(
        self,
        model: dict[str, Any],
        environment: dict[str, Any],
        image: str | None,
        variables: Mapping[str, str],
        broken: bool,
    ) -> Replica:
        """Start a server and wait until it is alive and ready.

        :param model: the model version's ARM resource.
        :param environment: the environment version's.
        :param broken: let the liveness probe fail.
        :raises PullError: if the image cannot be had.
        :raises CrashedError: if the server does not come up.
        """
        directory = self._fetch(model)
        routes = environment["properties"].get("inferenceConfig") or {}
        where = f"{_MOUNT}/{'/'.join(model['id'].split('/')[-3::2])}"
        contained = self.settings.containers and image is not None and serving.container.engine_is_there()
        try:
            server = serving.start(
                directory,
                folder=self._folder,
                environments=self.settings.environments,
                image=image if contained else None,
                env={**variables, "AZUREML_MODEL_DIR": where if contained else str(directory)},
                argv=("serve",),
                port=routes.get("scoringRoute", {}).get("port", 5001),
                mount=where,
            )
        except serving.ServingError as e:
            raise PullError(str(e)) from None
        if image and image.endswith("-is-not-there") and not contained:
            server.stop()
            raise PullError(f"{image}: manifest unknown")
        replica = Replica(server, routes.get("scoringRoute", {}).get("path", "/score"))
        for probe in ("livenessRoute", "readinessRoute"):
            path = "/the-liveness-route-is-broken" if broken else routes.get(probe, {}).get("path", "/")
            if not self._answers(server, f"{server.url}{path}", 5.0 if broken else _START_SECONDS):
                logs = replica.logs()
                replica.stop()
                raise CrashedError(logs)
        return replica

    def _answers(self, server: serving.Server, url: str, patience: float) -> bool:
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline and server.exit_status() is None:
            try:
                if httpx.get(url, timeout=5).is_success:
                    return True
            except httpx.TransportError:
                pass
            time.sleep(_POLL_SECONDS)
        return False

    def _fetch(self, model: dict[str, Any]) -> Path:
        """Return the model's folder, fetched from the workspace's blobs first."""
        uri = str(model["properties"]["modelUri"])
        found = re.search(r"/paths/(.+?)/?$", uri)
        prefix = found.group(1) if found else uri
        target = self.settings.home / "models" / "-".join(model["id"].split("/")[-3::2])
        container = blob_service(self.settings, self.certificates).get_container_client(CONTAINER)
        for blob in container.list_blobs(name_starts_with=f"{prefix}/"):
            path = target / str(blob.name)[len(prefix) + 1 :]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(container.download_blob(blob.name).readall())
        return target
