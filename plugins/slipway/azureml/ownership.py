"""Whose an endpoint is, who deploys to it just now, and what a deploy is going to change. No I/O."""

from __future__ import annotations

import time
from typing import Any

from slipway.azureml import names, traffic
from slipway.errors import Unavailable, UserError

__all__ = ["changes", "check", "check_free", "claims", "made_at", "made_by", "tags_to_set"]

Resource = dict[str, Any]


def check(endpoint: Resource | None, plan: dict[str, Any]) -> None:
    """Check that an endpoint was made by Slipway, and asks for what the plan says.

    :raises UserError: otherwise.
    """
    if endpoint is None:
        return
    if not names.of_slipway(endpoint):
        raise UserError(
            f"Endpoint '{plan['endpoint']}' is in the workspace and was not made by Slipway: choose another endpoint."
        )
    asked = (plan.get("spec") or {}).get("auth_mode")
    has = str(endpoint["properties"].get("authMode", ""))
    if asked and has.lower() != asked.replace("_", "").lower():
        raise UserError(
            f"Endpoint '{plan['endpoint']}' has authentication '{has}', which Azure does not let anybody change, and "
            f"not '{asked}': deploy with the one that it has, or run undeploy_azureml first."
        )
    wanted, runs_as = plan.get("identity"), (endpoint.get("identity") or {}).get("userAssignedIdentities") or {}
    if wanted and wanted.lower() not in {identity.lower() for identity in runs_as}:
        raise UserError(
            f"Endpoint '{plan['endpoint']}' has another identity than '{wanted}', and Azure does not let anybody "
            "change it: leave identity out, or run undeploy_azureml first."
        )


def made_by(deployment: Resource, run: str) -> bool:
    """Whether a run made a deployment."""
    return (deployment.get("tags") or {}).get(names.RUN) == run


def check_free(deployments: dict[str, Resource], shares: dict[str, int], plan: dict[str, Any], run: str) -> None:
    """Check that no other run is deploying something else to the endpoint.

    A deploy claims the endpoint by its deployment's tags until that serves alone, or until the time of the tag has
    passed. Of two that begin at the same moment, the one whose deployment is older goes on.

    :param shares: the endpoint's traffic in percent.
    :raises Unavailable: if another run is.
    """
    if shares.get(plan["deployment"]):
        return  # its own shift is under way or over, and what else is there served before
    ours = deployments.get(plan["deployment"])
    live = next((deployments[name] for name, share in shares.items() if share == 100 and name in deployments), None)
    for name, deployment in deployments.items():
        tags = deployment.get("tags") or {}
        if deployment in (ours, live) or made_by(deployment, run) or not claims(deployment):
            continue
        replaced = live is not None and made_at(deployment) < made_at(live)
        later = ours is not None and not shares.get(name) and made_at(ours) < made_at(deployment)
        if not replaced and not later:
            raise Unavailable(
                f"Another deploy of endpoint '{plan['endpoint']}' is in the making ({tags.get(names.RUN)}, deployment "
                f"{name}): wait for it to end."
            )


def made_at(resource: Resource) -> str:
    """Return when a resource was made, as text that sorts."""
    return str((resource.get("systemData") or {}).get("createdAt") or "")


def claims(deployment: Resource) -> bool:
    """Whether the run that made a deployment may be at work still."""
    until = (deployment.get("tags") or {}).get(names.CLAIMED_UNTIL) or ""
    return until.isdecimal() and int(until) >= time.time()


def tags_to_set(resource: Resource, plan: dict[str, Any]) -> dict[str, str] | None:
    """Return all tags that a resource is to have, those of the plan over those that it has; None if it has them."""
    has, wanted = resource.get("tags") or {}, plan.get("tags") or {}
    return {**has, **wanted} if wanted.items() - has.items() else None


def changes(
    endpoint: Resource | None, deployments: dict[str, Resource], plan: dict[str, Any], shift: traffic.Plan
) -> list[str]:
    """Return what a deploy is going to change, in words; one sentence for each change."""
    name, ours = plan["endpoint"], plan["deployment"]
    shares = (endpoint or {"properties": {}})["properties"].get("traffic") or {}
    tagged = [resource for resource in (endpoint, deployments.get(ours)) if resource and tags_to_set(resource, plan)]
    tags = [f"Tags of {resource['name']} are set: {', '.join(sorted(plan['tags']))}." for resource in tagged]
    if shares.get(ours) == 100:
        return tags or [f"Deployment {ours} serves endpoint '{name}' already: nothing changes."]
    live = traffic.live_of(shares)
    said = [] if endpoint else [f"Endpoint '{name}' is created with authentication {plan['spec']['auth_mode']}."]
    spec = plan["spec"]
    verb = "is adopted" if ours in deployments else "is created"
    said.append(f"Deployment {ours} {verb}: {spec['instance_count']} × {spec['instance_type']}.")
    if live:
        steps = ", ".join(f"{step} %" for step in shift.steps)
        said.append(f"Traffic moves from {live} to {ours} by {steps}, with {shift.wait:g} s between the steps.")
        said.append(f"Deployment {live} is removed.")
    else:
        said.append(f"Deployment {ours} gets all traffic.")
    return said + tags
