"""What a user may ask of a SageMaker deploy, checked before anything is touched."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from slipway.errors import UserError

__all__ = ["Autoscaling", "DataCapture", "Options", "Strategy", "Vpc"]

_PARTS = {"mode": ("memory", "max_concurrency"), "strategy": ("size", "wait", "alarms")}
# What SageMaker takes for a whole roll-out (MaximumExecutionTimeoutInSeconds), and what new instances need of it.
_LONGEST_SECONDS = 28_800
_START_SECONDS = 600
_LINEAR_PERCENT = 25
_S3 = r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/.*)?"


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataCapture(_Value):
    """What part of the requests and answers is kept in S3."""

    percentage: int = Field(100, ge=1, le=100)
    s3_uri: str = Field(pattern=_S3)
    kms: str | None = None


class Autoscaling(_Value):
    """How many instances there may be, and how many invocations a minute each is to take."""

    min: int = Field(ge=0)
    max: int = Field(ge=1)
    target: float = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is more than max {self.max}")
        return self


class Vpc(_Value):
    """The network that the containers run in."""

    subnets: list[str] = Field(min_length=1)
    security_groups: list[str] = Field(min_length=1)


class Strategy(_Value):
    """How traffic moves to the new version: the size of a step in percent, the wait after it in seconds."""

    type: Literal["all_at_once", "canary", "linear"] = "all_at_once"
    size: int | None = None
    wait: int = Field(300, ge=0, le=3600)
    alarms: list[str] = []

    @model_validator(mode="after")
    def _size_fits(self) -> Self:
        least = {"canary": 1, "linear": 10}.get(self.type)
        if self.size is not None and (least is None or not least <= self.size <= 50):
            raise ValueError(
                f"size {self.size} does not go with {self.type}: canary takes 1 to 50 percent, linear 10 to 50, "
                "all_at_once none"
            )
        return self

    @model_validator(mode="after")
    def _in_time(self) -> Self:
        longest = _LONGEST_SECONDS - _START_SECONDS
        if self.waits > longest:
            raise ValueError(
                f"the roll-out would wait {self.waits} s in all, and SageMaker takes {longest} s at most: "
                "take a larger size or a shorter wait"
            )
        return self

    @property
    def percent(self) -> int:
        """The size of a step."""
        return self.size or {"canary": 10, "linear": _LINEAR_PERCENT}[self.type]

    @property
    def bake(self) -> int:
        """Seconds that the old version stays after all traffic has moved, so that an alarm can bring it back."""
        return self.wait if self.alarms else 0

    @property
    def waits(self) -> int:
        """Seconds that a roll-out waits at most, all its steps together."""
        if self.type == "all_at_once":
            return 2 * self.bake  # as interval and as the old fleet's rest: SageMaker's limit must be above both
        steps = 2 if self.type == "canary" else math.ceil(100 / (self.size or _LINEAR_PERCENT))
        return steps * self.wait + self.bake

    def limit(self, patience: int) -> int:
        """Return how many seconds SageMaker is given for the whole roll-out before it goes back.

        :param patience: what the new instances are given to come up.
        """
        return min(_LONGEST_SECONDS, max(_START_SECONDS, patience) + self.waits)


def _named(value: Any) -> Any:
    """Take `"canary"`, `{"type": "canary", "size": 10}` and `{"canary": {"size": 10}}` for the same."""
    if isinstance(value, str):
        return {"type": value}
    if isinstance(value, dict) and len(value) == 1 and isinstance(next(iter(value.values())), dict):
        ((name, rest),) = value.items()
        return {"type": name, **rest}
    return value


class Mode(_Value):
    """Instances that are always there, or memory that is paid by the request."""

    type: Literal["realtime", "serverless"] = "realtime"
    memory: Literal[1024, 2048, 3072, 4096, 5120, 6144] = 2048
    max_concurrency: int = Field(20, ge=1, le=200)


class Options(_Value):
    """All of it. What is None is left as the endpoint has it, or as SageMaker has it by default.

    `no_autoscaling` is what `"autoscaling": "off"` in a conf becomes.
    """

    image: str | None = None
    instance_type: str = Field("ml.m5.large", pattern=r"ml\.[a-z0-9-]+\.[a-z0-9-]+")
    instance_count: int | None = Field(None, ge=1)
    mode: Annotated[Mode, BeforeValidator(_named)] = Field(default_factory=dict, validate_default=True)
    strategy: Annotated[Strategy, BeforeValidator(_named)] = Field(default_factory=dict, validate_default=True)
    autoscaling: Autoscaling | None = None
    no_autoscaling: bool = False
    data_capture: DataCapture | None = None
    environment: dict[str, str] = {}
    vpc: Vpc | None = None
    kms: str | None = None
    tags: dict[str, str] = {}

    @model_validator(mode="after")
    def _serverless_has_less(self) -> Self:
        given = {name: getattr(self, name) for name in ("vpc", "data_capture", "autoscaling", "kms")}
        if self.serverless and (unwanted := [name for name, value in given.items() if value]):
            raise ValueError(f"mode serverless goes without {' and '.join(unwanted)}, which SageMaker has not for it")
        if reserved := [key for key in self.tags if key.lower().startswith(("slipway:", "aws:"))]:
            raise ValueError(f"tags may not begin with 'slipway:' or 'aws:', as {reserved[0]!r} does")
        return self

    @property
    def serverless(self) -> bool:
        """Whether there are no instances."""
        return self.mode.type == "serverless"

    @classmethod
    def parse(cls, given: dict[str, Any]) -> Self:
        """Return the options of a run's conf; empty ones count as not given.

        :raises UserError: in one sentence, for the first that is wrong.
        """
        present = {name: value for name, value in given.items() if value not in (None, "", {}, [])}
        for owner, parts in _PARTS.items():
            if beside := {part: present.pop(part) for part in parts if part in present}:
                # Beside it in the conf, as the form has them, or inside it: both are understood.
                present[owner] = {**_named(present.get(owner, {})), **beside}
        if present.get("autoscaling") in ("off", False):
            del present["autoscaling"]
            present["no_autoscaling"] = True
        try:
            return cls.model_validate(present)
        except ValidationError as e:
            first = e.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            what = first["msg"].removeprefix("Value error, ")
            raise UserError(f"{where or 'The conf of deploy_sagemaker'}: {what}; correct the conf.") from None

    def beyond_rollback(self) -> list[str]:
        """Return which options were given that make a deployment another one: a rollback has no use for them."""
        usual = type(self).parse({})
        fixed = ("image", "instance_type", "instance_count", "mode", "data_capture", "environment", "vpc", "kms")
        return [name for name in fixed if getattr(self, name) != getattr(usual, name)]

    def identity(self) -> dict[str, Any]:
        """Return what makes a deployment another one: all but how it is rolled out, scaled and tagged."""
        beside = {"strategy", "autoscaling", "no_autoscaling", "tags"}
        dumped = self.model_dump(mode="json", exclude=beside, exclude_none=True)
        if self.serverless:
            del dumped["instance_type"]
        else:
            dumped["mode"] = {"type": "realtime"}
        return dumped
