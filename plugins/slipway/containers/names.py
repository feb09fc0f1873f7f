"""What an endpoint on a Docker Engine is made of: names, labels, paths and ports."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

__all__ = [
    "DEPLOYMENT_LABEL",
    "ENDPOINT_LABEL",
    "HOME",
    "MODEL_LABEL",
    "PORT",
    "door_name",
    "likely_ports",
    "server_name",
    "volume_name",
]

ENDPOINT_LABEL = "slipway.endpoint"
DEPLOYMENT_LABEL = "slipway.deployment"
MODEL_LABEL = "slipway.model"

HOME = "/run/slipway"
"""Where the containers of an endpoint find the volume that they share."""
PORT = 8080
"""Where the front door listens in its container."""

_FIRST, _COUNT = 20_000, 10_000


def volume_name(endpoint: str) -> str:
    """Return the name of the volume in which an endpoint's containers meet."""
    return f"slipway-{endpoint}"


def door_name(endpoint: str) -> str:
    """Return the name of the container that is an endpoint's front door."""
    return f"slipway-{endpoint}"


def server_name(endpoint: str, deployment: str) -> str:
    """Return the name of a deployment's container. No endpoint has a dot, so no door is called so."""
    return f"slipway-{endpoint}.{deployment}"


def likely_ports(endpoint: str) -> Iterator[int]:
    """Yield ports for an endpoint where the user gives none: always the same for one name.

    The engine's own choice would change with each restart.
    """
    start = int(hashlib.sha256(endpoint.encode()).hexdigest(), 16)
    for step in range(50):
        yield _FIRST + (start + step) % _COUNT
