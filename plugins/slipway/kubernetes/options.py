"""What a user chooses for an endpoint on Kubernetes, checked when it is made."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from slipway.errors import UserError

__all__ = ["NAMESPACE", "Autoscaling", "Ingress", "Options", "Resources", "parse"]

# https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/
_QUANTITY = re.compile(r"\d+(\.\d+)?(m|[kMGTPE]|[KMGTPE]i)?")
_LABEL = r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?"
_SUBDOMAIN = re.compile(rf"{_LABEL}(\.{_LABEL})*")
NAMESPACE = re.compile(_LABEL)
_MAX_REPLICAS = 1000


class _Choice(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Resources(_Choice):
    """Requests and limits of each pod: quantities such as `500m` of `cpu` and `1Gi` of `memory`."""

    requests: dict[str, str] = Field(default_factory=lambda: {"cpu": "250m", "memory": "512Mi"})
    limits: dict[str, str] = Field(default_factory=lambda: {"memory": "2Gi"})

    @field_validator("requests", "limits", mode="before")
    @classmethod
    def _are_quantities(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError('must be an object such as {"cpu": "500m", "memory": "1Gi"}')
        for resource, quantity in value.items():
            text = str(quantity)
            if isinstance(quantity, bool) or not _QUANTITY.fullmatch(text) or not re.search("[1-9]", text):
                raise ValueError(f"{resource} must be a quantity above zero such as 500m, 2 or 1Gi, not {quantity!r}")
        return {resource: str(quantity) for resource, quantity in value.items()}


class Autoscaling(_Choice):
    """How many pods there may be, and the share of the requested CPU (in percent) to keep them at."""

    min_replicas: int = Field(1, ge=1, le=_MAX_REPLICAS)
    max_replicas: int = Field(ge=1, le=_MAX_REPLICAS)
    cpu_percent: int = Field(80, ge=1, le=1000)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.max_replicas < self.min_replicas:
            raise ValueError(f"max_replicas {self.max_replicas} is below min_replicas {self.min_replicas}")
        return self


class Ingress(_Choice):
    """How the endpoint is reached from outside the cluster: a host name of its own."""

    host: str = Field(max_length=253)
    class_name: str | None = Field(None, min_length=1, max_length=253)
    tls_secret: str | None = Field(None, min_length=1, max_length=253)
    annotations: dict[str, str] = Field(default_factory=dict)

    @field_validator("host", "class_name", "tls_secret")
    @classmethod
    def _is_name(cls, value: str | None) -> str | None:
        if value is not None and not _SUBDOMAIN.fullmatch(value):
            raise ValueError(f"must be a lower-case DNS name, not {value!r}")
        return value

    @property
    def url(self) -> str:
        """The endpoint's address."""
        return f"{'https' if self.tls_secret else 'http'}://{self.host}"


class Options(_Choice):
    """All that a user chooses; `namespace` empty: the connection's."""

    namespace: str | None = None
    replicas: int = Field(1, ge=1, le=_MAX_REPLICAS)
    resources: Resources = Field(default_factory=Resources)
    autoscaling: Autoscaling | None = None
    ingress: Ingress | None = None
    image_pull_secret: str | None = Field(None, max_length=253)

    @field_validator("namespace")
    @classmethod
    def _is_namespace(cls, value: str | None) -> str | None:
        if value is not None and not NAMESPACE.fullmatch(value):
            raise ValueError(f"must be a namespace's name such as 'models', not {value!r}")
        return value

    @field_validator("image_pull_secret")
    @classmethod
    def _is_secret(cls, value: str | None) -> str | None:
        if value is not None and not _SUBDOMAIN.fullmatch(value):
            raise ValueError(f"must be a secret's name such as 'registry', not {value!r}")
        return value

    @model_validator(mode="after")
    def _can_scale(self) -> Self:
        if self.autoscaling and "cpu" not in self.resources.requests:
            raise ValueError("autoscaling goes by the share of the requested cpu, and resources.requests has no cpu")
        return self

    @property
    def first_replicas(self) -> int:
        """How many pods a deployment begins with."""
        return self.autoscaling.min_replicas if self.autoscaling else self.replicas


def parse(values: dict[str, Any]) -> Options:
    """Return the options among a deployment's `spec`; what is None takes its default.

    :raises UserError: naming the first option that is wrong.
    """
    known = {name: values[name] for name in Options.model_fields if values.get(name) is not None}
    try:
        return Options.model_validate(known)
    except ValidationError as e:
        first = e.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        what = f"Option '{where}'" if where else "This choice of options"
        reason = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{what} is not allowed for a Kubernetes deployment ({reason}): correct it and deploy again."
        ) from None
