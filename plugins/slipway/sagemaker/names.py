"""Names and tags of what Slipway makes in SageMaker.

A deployment is a model and an endpoint configuration of one name, `<endpoint>-<deployment>`, such as
`churn-v3-1f0c2a9b`: both are found again by the endpoint's name, and a retried task finds what it made.
"""

from __future__ import annotations

import hashlib
import re

__all__ = [
    "AUTOSCALING_TAG",
    "DEPLOYMENT_TAG",
    "MODEL_TAG",
    "SUPERSEDED_TAG",
    "VARIANT",
    "VERSION_TAG",
    "belongs_to",
    "deployment_of",
    "owner_tags",
    "resource_name",
    "resource_prefix",
]

VARIANT = "AllTraffic"
SUPERSEDED_TAG = "slipway:superseded"
# On an endpoint whose autoscaling is away while its instance type changes: what it was.
AUTOSCALING_TAG = "slipway:autoscaling"
ENDPOINT_TAG, MODEL_TAG, VERSION_TAG, DEPLOYMENT_TAG = (
    f"slipway:{name}" for name in ("endpoint", "model", "version", "deployment")
)

_DEPLOYMENT = re.compile(r"v\d+-[0-9a-f]{8}")
# SageMaker takes 63 characters; a deployment takes 18 of them if a model has fewer than ten million versions.
_LONGEST_PREFIX = 44


def resource_prefix(endpoint: str) -> str:
    """Return how the names of an endpoint's models and configurations begin; a long endpoint name is cut."""
    if len(endpoint) <= _LONGEST_PREFIX:
        return endpoint
    return f"{endpoint[:35].rstrip('-')}-{hashlib.sha256(endpoint.encode()).hexdigest()[:8]}"


def resource_name(endpoint: str, deployment: str) -> str:
    """Return the name of a deployment's model and endpoint configuration."""
    return f"{resource_prefix(endpoint)}-{deployment}"


def deployment_of(endpoint: str, name: str) -> str | None:
    """Return the deployment that a model or configuration of an endpoint is named after; None for a stranger's name."""
    rest = name.removeprefix(f"{resource_prefix(endpoint)}-")
    return rest if rest != name and _DEPLOYMENT.fullmatch(rest) else None


def owner_tags(plan: dict[str, str]) -> dict[str, str]:
    """Return the tags by which what belongs to a plan's deployment is known."""
    return {
        ENDPOINT_TAG: plan["endpoint"],
        MODEL_TAG: plan["model"],
        VERSION_TAG: plan["version"],
        DEPLOYMENT_TAG: plan["deployment"],
    }


def belongs_to(endpoint: str, tags: dict[str, str]) -> bool:
    """Whether a resource with these tags was made by Slipway for an endpoint."""
    return tags.get(ENDPOINT_TAG) == endpoint
