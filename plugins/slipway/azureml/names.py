"""What Slipway's things are called in Azure, and the tags that say whose they are."""

from __future__ import annotations

import re
from typing import Any

from slipway import naming
from slipway.errors import UserError

__all__ = [
    "AUTOSCALED",
    "CLAIMED_UNTIL",
    "DEPLOYMENT",
    "ENVIRONMENT",
    "LOCK",
    "MODEL",
    "RUN",
    "VERSION",
    "check_endpoint",
    "check_identity",
    "check_tags",
    "environment_version",
    "model_version",
    "of_slipway",
    "tags_of",
]

MODEL = "slipway.model"
VERSION = "slipway.version"
LOCK = "slipway.lock"
DEPLOYMENT = "slipway.deployment"
RUN = "slipway.run"
CLAIMED_UNTIL = "slipway.claimed_until"
AUTOSCALED = "slipway.autoscaled"

ENVIRONMENT = "slipway-scoring"

# https://learn.microsoft.com/azure/machine-learning/how-to-manage-quotas#azure-machine-learning-online-endpoints-and-batch-endpoints
_ENDPOINT = re.compile(r"[a-z][a-z0-9-]{1,30}[a-z0-9]")
# https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources#limitations
_TAG = re.compile(r"[^<>%&\\?/]{1,512}")
_IDENTITY = re.compile(
    r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/]+",
    re.IGNORECASE,
)


def check_endpoint(name: str) -> str:
    """Return `name` if AzureML accepts it as an endpoint's.

    :raises UserError: otherwise.
    """
    if not _ENDPOINT.fullmatch(name):
        raise UserError(
            f"Endpoint name '{name}' is not allowed in AzureML: use 3 to 32 lower-case letters, digits or '-', "
            "starting with a letter and not ending with '-'; give it as endpoint if it was made from the model's name."
        )
    return name


def check_identity(identity: str | None) -> None:
    """Check that what an endpoint is to run as is the resource id of a user-assigned identity, or nothing.

    :raises UserError: otherwise.
    """
    if identity and not _IDENTITY.fullmatch(identity):
        raise UserError(
            f"identity '{identity}' is no user-assigned identity's resource id: give it as /subscriptions/…/"
            "resourceGroups/…/providers/Microsoft.ManagedIdentity/userAssignedIdentities/…, or leave it out."
        )


def check_tags(tags: Any) -> dict[str, str]:
    """Return a user's tags if Azure accepts them.

    :raises UserError: otherwise.
    """
    for name, value in (tags or {}).items():
        if not _TAG.fullmatch(name) or name.startswith("slipway.") or not isinstance(value, str) or len(value) > 256:
            raise UserError(
                f"Tag '{name}' is not allowed: names have up to 512 characters, none of < > % & \\ ? /, and do not "
                "begin with 'slipway.'; values are text of up to 256 characters."
            )
    if len(tags or {}) > 45:
        raise UserError("There are more than 45 tags: Azure takes 50, some of which are Slipway's.")
    return dict(tags or {})


def model_version(spec: dict[str, Any]) -> str:
    """Return the version of the model asset: MLflow's, and which MLflow's, so that two registries do not collide."""
    source = {key: spec[key] for key in ("model_uri", "artifact_uri")}
    return f"{spec['version']}-{naming.spec_digest(source)[:8]}"


def environment_version(image: str) -> str:
    """Return the version of the environment asset: there is one for each image."""
    return naming.spec_digest({"image": image})[:16]


def tags_of(plan: dict[str, Any]) -> dict[str, str]:
    """Return the tags that say which model and version a resource is for."""
    return {MODEL: plan["model"], VERSION: plan["version"], DEPLOYMENT: plan["deployment"]}


def of_slipway(resource: dict[str, Any]) -> bool:
    """Whether Slipway made a resource."""
    return MODEL in (resource.get("tags") or {})
