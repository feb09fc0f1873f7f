"""The servers behind an endpoint configuration: model data fetched, container started as SageMaker starts it, pinged.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

import hashlib
import io
import secrets
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from slipway_sandbox import serving
from slipway_sandbox.aws import neighbours
from slipway_sandbox.aws.registry import Registries
from slipway_sandbox.aws.settings import Behaviour, Place
from slipway_sandbox.aws.store import Region

__all__ = ["Fleet", "Fleets", "ProvisioningError"]

_PING_SECONDS = 2.0
_DRAIN_SECONDS = 90.0


class ProvisioningError(Exception):
    """Why a fleet did not come up, in SageMaker's words."""


class Fleet:
    """One server, for as many instances as the variant has: they would all answer the same.

    :param config: name of the endpoint configuration that it is made from.
    :param variant: the configuration's variant.
    :param model: the model's request.
    """

    def __init__(self, config: str, variant: dict[str, Any], model: dict[str, Any], server: serving.Server) -> None:
        self.config = config
        self.variant = variant
        self.image: str = model["PrimaryContainer"]["Image"]
        self.server = server
        self.log_stream = new_log_stream(variant)
        self.client = httpx.Client(base_url=server.url, limits=httpx.Limits(max_connections=None))
        self._busy = 0
        self._idle = threading.Condition()
        self._told = 0

    @property
    def concurrency(self) -> int | None:
        """Most requests at a time, for serverless variants."""
        serverless = self.variant.get("ServerlessConfig")
        return int(serverless["MaxConcurrency"]) if serverless else None

    @contextmanager
    def request(self) -> Iterator[bool]:
        """Count a request while it is served; False if there are too many."""
        with self._idle:
            admitted = self.concurrency is None or self._busy < self.concurrency
            self._busy += admitted
        try:
            yield admitted
        finally:
            with self._idle:
                self._busy -= admitted
                self._idle.notify_all()

    def retire(self) -> None:
        """Let what is in flight end, and end the server."""
        with self._idle:
            self._idle.wait_for(lambda: self._busy == 0, _DRAIN_SECONDS)
        self.client.close()
        self.server.stop()

    def new_lines(self) -> list[str]:
        """Return what the server has logged since the last call."""
        lines = self.server.logs()[self._told :]
        self._told += len(lines)
        return lines


class Fleets:
    """Makes fleets."""

    def __init__(self, place: Place, behaviour: Behaviour, registries: Registries | None) -> None:
        self._place = place
        self._behaviour = behaviour
        self._registries = registries
        self._unpacking = threading.Lock()

    def start(self, region: Region, endpoint: str, config: str) -> Fleet:
        """Start a fleet, and wait until it answers /ping.

        :raises ProvisioningError: if it does not; its log is in CloudWatch then.
        """
        (variant,) = region.config(config).request["ProductionVariants"]
        model = region.model(variant["ModelName"]).request
        container = model["PrimaryContainer"]
        self._behaviour.provision()
        try:
            server = serving.start(
                self._unpacked(container.get("ModelDataUrl", "")),
                folder=self._place.folder / "servers",
                environments=self._place.environments,
                image=container["Image"] if self._place.containers else None,
                env={**container.get("Environment", {}), "AWS_REGION": region.name},
                login=self._registries.of(region.name).login if self._registries and self._place.containers else None,
            )
        except serving.ServingError as error:
            neighbours.append_logs(region.name, log_group(endpoint), new_log_stream(variant), [str(error)])
            raise ProvisioningError(f"The container of variant {variant['VariantName']} did not start.") from None
        fleet = Fleet(config, variant, model, server)
        limit = variant.get("ContainerStartupHealthCheckTimeoutInSeconds", self._behaviour.health_check_seconds)
        healthy = _answers_ping(fleet, min(limit, self._behaviour.health_check_seconds))
        self.publish_logs(region, endpoint, fleet)
        if not healthy:
            fleet.retire()
            raise ProvisioningError(
                f"The primary container for production variant {variant['VariantName']} did not pass the ping health "
                "check. Please check CloudWatch logs for this endpoint."
            )
        return fleet

    def publish_logs(self, region: Region, endpoint: str, fleet: Fleet) -> None:
        """Append what a server has logged to the endpoint's stream."""
        if lines := fleet.new_lines():
            neighbours.append_logs(region.name, log_group(endpoint), fleet.log_stream, lines)

    def _unpacked(self, uri: str) -> Path:
        """Return the folder with the model's files; each content is unpacked once."""
        found = neighbours.read_object(uri) if uri else None
        if found is None:
            raise ProvisioningError(f"Failed to download model data from {uri}.")
        etag, content = found
        folder = self._place.folder / "models" / hashlib.sha256(f"{uri} {etag}".encode()).hexdigest()[:16]
        with self._unpacking:
            if not folder.is_dir():
                try:
                    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as archive:
                        archive.extractall(folder, filter="data")
                except tarfile.TarError as error:
                    raise ProvisioningError(f"Failed to extract model data archive {uri}: {error}.") from None
        return folder


def _answers_ping(fleet: Fleet, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and fleet.server.exit_status() is None:
        try:
            if fleet.client.get("/ping", timeout=_PING_SECONDS).status_code == httpx.codes.OK:
                return True
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    return False


def log_group(endpoint: str) -> str:
    """Return the CloudWatch log group of an endpoint."""
    return f"/aws/sagemaker/Endpoints/{endpoint}"


def new_log_stream(variant: dict[str, Any]) -> str:
    """Return the log stream of a variant's new instance, which has an id of its own."""
    return f"{variant['VariantName']}/i-{secrets.token_hex(9)[:17]}"
