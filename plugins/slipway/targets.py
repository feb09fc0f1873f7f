"""The targets that an endpoint can live on: what the shared steps of every deploy need of each."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Protocol, cast

from slipway.domain import DeploymentRecord
from slipway.errors import UserError

__all__ = [
    "Condition",
    "EndpointHook",
    "Served",
    "SwitchingHook",
    "WatchingHook",
    "endpoint_hook",
    "recorded_hook",
    "switching_hook",
]

# Named, not imported: each hook brings its service's client with it, and a deploy needs just one.
_HOOKS = {
    "mlflow": "slipway.hooks.model_host:ModelHostHook",
    "docker": "slipway.hooks.docker:DockerEndpointHook",
    "kubernetes": "slipway.hooks.kubernetes:KubernetesEndpointHook",
    "sagemaker": "slipway.hooks.sagemaker:SageMakerEndpointHook",
    "azureml": "slipway.hooks.azureml:AzureMLEndpointHook",
}


@dataclass(frozen=True)
class Served:
    """What is found of an endpoint on its target.

    :param model: whose the endpoint is; None if nothing serves yet.
    :param live: the deployment that serves, if one does.
    :param previous: the deployment that served before it and can serve again, if there is one.
    :param deployments: all that are there.
    :param answers: whether the endpoint said what it serves; if not, `live` and `previous` are not known.
    """

    endpoint: str
    model: str | None = None
    live: str | None = None
    previous: str | None = None
    deployments: frozenset[str] = field(default_factory=frozenset)
    answers: bool = True


@dataclass(frozen=True)
class Condition:
    """How a deployment that serves is, as its target sees it: whether it answers requests, in a sentence."""

    well: bool
    sentence: str


class EndpointHook(Protocol):
    """What verifying needs of a target's hook, and telling whose an endpoint is."""

    def invoke(self, endpoint: str, payload: dict[str, Any], *, deployment: str | None = None) -> Any:
        """Send a body of `/invocations` to the endpoint, or to one of its deployments; return the predictions."""
        ...

    def served(self, endpoint: str) -> Served | None:
        """Return what is there of an endpoint; None if there is nothing of it."""
        ...


class SwitchingHook(EndpointHook, Protocol):
    """What switching, restoring and undeploying need beside that, on a target where deployments stand side by side.

    On SageMaker they do not: an endpoint goes from one configuration to the next, in minutes that are waited for.
    """

    def set_live(self, endpoint: str, deployment: str) -> object:
        """Let a deployment serve; nothing happens if it does already."""
        ...

    def delete_deployment(self, endpoint: str, deployment: str) -> object:
        """Remove a deployment that does not serve; it is well if it is not there.

        :raises UserError: if it serves.
        """
        ...

    def delete_endpoint(self, endpoint: str) -> object:
        """Remove all of an endpoint, or what an earlier try left of it."""
        ...


class WatchingHook(EndpointHook, Protocol):
    """What telling health needs beside that, on a target that looks after what serves there.

    On the others (mlflow, docker) the scoring server's own health check is asked.
    """

    def condition(self, endpoint: str, deployment: str) -> Condition:
        """Return how a deployment is that the endpoint serves."""
        ...


def endpoint_hook(target: str, conn_id: str) -> EndpointHook:
    """Return the hook of `target`.

    :raises UserError: if there is no such target.
    """
    if target not in _HOOKS:
        raise UserError(f"Target '{target}' does not exist: use one of {', '.join(sorted(_HOOKS))}.")
    module, _, name = _HOOKS[target].partition(":")
    return cast("EndpointHook", getattr(import_module(module), name)(conn_id))


def recorded_hook(record: DeploymentRecord, conn_id: str) -> EndpointHook:
    """Return the hook of a recorded endpoint, wherever that is: SageMaker's are in the region that the record names.

    :param conn_id: the target's connection.
    """
    if record.target == "sagemaker" and (region := record.details.get("region")):
        from slipway.hooks.sagemaker import SageMakerEndpointHook

        return SageMakerEndpointHook(conn_id, str(region))
    return endpoint_hook(record.target, conn_id)


def switching_hook(target: str, conn_id: str) -> SwitchingHook:
    """Return the hook of a `target` on which deployments stand side by side.

    :raises UserError: if there is no such target.
    """
    return cast("SwitchingHook", endpoint_hook(target, conn_id))
