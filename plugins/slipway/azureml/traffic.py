"""How an endpoint's traffic moves from the old deployment to the new one: pure arithmetic on Azure's percentages."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from slipway.errors import UserError

__all__ = ["Plan", "live_of", "shared", "without"]


class Plan(BaseModel):
    """The `traffic` parameter: percentages for the new deployment, each held for `wait` seconds.

    `mirror`: percentage of live requests that the new deployment gets a copy of first, for one wait.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    steps: tuple[int, ...] = (10, 50, 100)
    wait: float = Field(default=60.0, ge=0, le=86_400)
    mirror: int = Field(default=0, ge=0, le=50)

    @field_validator("steps")
    @classmethod
    def _rise_to_all(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if not steps or steps[-1] != 100 or list(steps) != sorted(set(steps)) or steps[0] < 1:
            raise ValueError("must rise from at least 1 and end with 100")
        return steps

    @classmethod
    def read(cls, given: Any) -> Plan:
        """Return the plan that a user gave.

        :raises UserError: if it makes no sense.
        """
        try:
            return cls.model_validate(given or {})
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "it"
            raise UserError(
                f"traffic is not one that can be shifted ({where}: {first['msg']}): give percentages that rise to 100, "
                'such as {"steps": [10, 50, 100], "wait": 60, "mirror": 0}.'
            ) from None

    @property
    def patience(self) -> float:
        """Seconds that all waits of a shift take."""
        return self.wait * (len(self.steps) + bool(self.mirror))

    def after(self, share: int) -> int:
        """Return the next percentage for a deployment that has `share` now."""
        return next(step for step in self.steps if step > share)


def live_of(traffic: dict[str, int]) -> str | None:
    """Return the deployment with the most traffic, if any has some."""
    return max((name for name, share in traffic.items() if share), key=lambda name: traffic[name], default=None)


def shared(traffic: dict[str, int], deployment: str, share: int) -> dict[str, int]:
    """Return traffic in which `deployment` has `share` percent and the one with the most of the others has the rest.

    Where nothing else serves, it has all: Azure takes traffic of 100 or of 0.
    """
    other = live_of({name: percent for name, percent in traffic.items() if name != deployment})
    if other is None or share >= 100:
        return {deployment: 100}
    return {other: 100 - share, deployment: share}


def without(traffic: dict[str, int], deployment: str) -> dict[str, int]:
    """Return traffic in which `deployment` has none, and the one with the most of the others all."""
    other = live_of({name: percent for name, percent in traffic.items() if name != deployment})
    return {other: 100} if other else {}
