"""The rules by which Azure Monitor scales a deployment by its CPU.

Source of the protocol: https://learn.microsoft.com/rest/api/monitor/autoscale-settings/create-or-update, api-version
2022-10-01; the metric's name is from https://learn.microsoft.com/azure/machine-learning/how-to-autoscale-endpoints.
"""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from slipway.azureml import names
from slipway.azureml.workspace import Workspace
from slipway.errors import UserError

__all__ = ["Autoscaling", "setting_path"]

_VERSION = "2022-10-01"


class Autoscaling(BaseModel):
    """The `autoscaling` parameter: how many instances, and the percentage of CPU above which there is one more."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    min: int = Field(default=1, ge=1)
    max: int = Field(le=100)
    cpu: int = Field(default=70, ge=10, le=95)

    @model_validator(mode="after")
    def _ordered(self) -> Autoscaling:
        if self.max < self.min:
            raise ValueError("max is less than min")
        return self

    @classmethod
    def read(cls, given: Any) -> Autoscaling | None:
        """Return what a user gave; None if nothing was.

        :raises UserError: if it makes no sense.
        """
        if not given:
            return None
        try:
            return cls.model_validate(given)
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "it"
            raise UserError(
                f"autoscaling is not one that Azure can do ({where}: {first['msg']}): give it such as "
                '{"min": 1, "max": 4, "cpu": 70}.'
            ) from None

    def setting(self, deployment: dict[str, Any], plan: dict[str, Any]) -> dict[str, Any]:
        """Return the body of the autoscale setting of a deployment, which is given as its ARM resource."""
        rules = [
            self._rule(deployment["id"], "GreaterThan", self.cpu, "Increase"),
            # Well below, so that one instance less does not at once ask for one more.
            self._rule(deployment["id"], "LessThan", self.cpu // 2, "Decrease"),
        ]
        capacity = {"minimum": str(self.min), "maximum": str(self.max), "default": str(self.min)}
        profile = {"name": "slipway", "capacity": capacity, "rules": rules}
        properties = {"enabled": True, "targetResourceUri": deployment["id"], "profiles": [profile]}
        return {"location": deployment["location"], "tags": names.tags_of(plan), "properties": properties}

    def _rule(self, resource: str, operator: str, threshold: int, direction: str) -> dict[str, Any]:
        trigger = {
            "metricName": "CpuUtilizationPercentage",
            "metricResourceUri": resource,
            "operator": operator,
            "threshold": threshold,
            "statistic": "Average",
            "timeAggregation": "Average",
            "timeGrain": "PT1M",
            "timeWindow": "PT5M",
        }
        action = {"direction": direction, "type": "ChangeCount", "value": "1", "cooldown": "PT5M"}
        return {"metricTrigger": trigger, "scaleAction": action}


def setting_path(workspace: Workspace, endpoint: str, deployment: str) -> str:
    """Return the ARM path of a deployment's autoscale setting, with the API's version."""
    return (
        f"/subscriptions/{workspace.subscription_id}/resourceGroups/{workspace.resource_group}"
        f"/providers/Microsoft.Insights/autoscalesettings/slipway-{workspace.name}-{endpoint}-{deployment}"
        f"?api-version={_VERSION}"
    )
