"""What every ARM resource has: an id, a type, `systemData`
(https://github.com/Azure/azure-resource-manager-rpc/blob/master/v1.0/resource-api-reference.md)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

__all__ = ["WORKSPACE", "resource", "touched"]

WORKSPACE = (
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.MachineLearningServices"
    "/workspaces/{workspace}"
)


def resource(arm_id: str, body: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a new resource with the id `arm_id`, from the body of a PUT."""
    parts = arm_id.split("/")
    made = {
        **body,
        **more,
        "id": arm_id,
        "name": parts[-1],
        "type": "/".join(["Microsoft.MachineLearningServices", *parts[7::2]]),
        "systemData": {"createdBy": "sandbox", "createdByType": "Application", "createdAt": _now()},
    }
    return touched(made)


def touched(found: dict[str, Any]) -> dict[str, Any]:
    """Return the resource with the time of this change on it."""
    system = {**found["systemData"], "lastModifiedBy": "sandbox", "lastModifiedByType": "Application"}
    return {**found, "systemData": {**system, "lastModifiedAt": _now()}}


def _now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
