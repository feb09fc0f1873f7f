"""What SageMaker keeps in one region: models, endpoint configurations, endpoints, and everybody's tags."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from slipway_sandbox.aws.protocol import AwsError
from slipway_sandbox.aws.settings import ACCOUNT

if TYPE_CHECKING:
    from slipway_sandbox.aws.fleet import Fleet

__all__ = ["Endpoint", "Region", "Resource"]

_Kind = TypeVar("_Kind")


@dataclass
class Resource:
    """A model or an endpoint configuration: what it was asked to be, which never changes.

    :param unseen: how often it is still not found by a call that is to use it.
    """

    name: str
    arn: str
    request: dict[str, Any]
    unseen: int = 0
    created: float = field(default_factory=time.time)


@dataclass
class Endpoint:
    """An endpoint: what serves, and what is on its way to serve."""

    name: str
    arn: str
    config: str
    status: str = "Creating"
    reason: str | None = None
    # None until the first fleet is there; for serverless ones it stays None.
    instances: int | None = None
    capture: dict[str, Any] | None = None
    live: Fleet | None = None
    candidate: Fleet | None = None
    # The part of the requests that the candidate gets, 0 to 1.
    share: float = 0.0
    pending: str | None = None
    deployment: dict[str, Any] | None = None
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)


class Region:
    """One region's resources; hold `lock` for what must not be seen half done."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.RLock()
        self.models: dict[str, Resource] = {}
        self.configs: dict[str, Resource] = {}
        self.endpoints: dict[str, Endpoint] = {}
        self.tags: dict[str, dict[str, str]] = {}

    def arn(self, kind: str, name: str) -> str:
        """Return the ARN of a resource."""
        return f"arn:aws:sagemaker:{self.name}:{ACCOUNT}:{kind}/{name.lower()}"

    def model(self, name: str, *, use: bool = False) -> Resource:
        """Return a model.

        :param use: whether something is to be made of it: such a call may not see it yet.
        :raises AwsError: if there is none.
        """
        missing = self._missing("model", "model", name)
        return _seen(_found(self.models, name, missing), missing, use=use)

    def config(self, name: str, *, use: bool = False) -> Resource:
        """Return an endpoint configuration.

        :param use: whether something is to be made of it: such a call may not see it yet.
        :raises AwsError: if there is none.
        """
        missing = self._missing("endpoint configuration", "endpoint-config", name)
        return _seen(_found(self.configs, name, missing), missing, use=use)

    def _missing(self, what: str, kind: str, name: str) -> str:
        return f'Could not find {what} "{self.arn(kind, name)}".'

    def endpoint(self, name: str) -> Endpoint:
        """Return an endpoint.

        :raises AwsError: if there is none.
        """
        return _found(self.endpoints, name, self._missing("endpoint", "endpoint", name))

    def tag(self, arn: str, tags: list[dict[str, str]]) -> None:
        """Set tags of a resource."""
        self.tags.setdefault(arn, {}).update({tag["Key"]: tag["Value"] for tag in tags})


def _seen(resource: Resource, otherwise: str, *, use: bool) -> Resource:
    if use and resource.unseen > 0:
        resource.unseen -= 1
        raise AwsError("ValidationException", otherwise)
    return resource


def _found(resources: dict[str, _Kind], name: str, otherwise: str) -> _Kind:
    if name not in resources:
        raise AwsError("ValidationException", otherwise)
    return resources[name]
