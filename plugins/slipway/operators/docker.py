"""Deploy to a Docker Engine: create or adopt the containers, wait, and at the end take away what serves no more."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import settings
from slipway.containers.spec import ServerSpec, parse_cpus, parse_env, parse_memory
from slipway.errors import SlipwayError, UserError
from slipway.hooks.docker import DockerEndpointHook
from slipway.hooks.docker_candidate import Candidate
from slipway.hooks.mlflow import MlflowHook
from slipway.images.registries import open_registry
from slipway.operators.base import PlanOperator, one_sentence
from slipway.operators.ending import published_and_left
from slipway.operators.endpoints import RestoreOperator, check_owner
from slipway.registry import Registry
from slipway.triggers.deployment import check_there
from slipway.triggers.docker import DockerDeploymentTrigger

__all__ = ["DockerDeployOperator", "DockerRestoreOperator", "DockerRetireOperator"]

# Most servers are up within this time, sooner than a trip to the triggerer and back.
_SHORT_WAIT_SECONDS = 15.0
_PAUSE_SECONDS = 0.25


class DockerDeployOperator(PlanOperator):
    """Start a deployment's container beside what the endpoint serves, and wait until it is ready.

    Returns `url`, `image` and `details`.

    :param plan: what `ResolveVersionOperator` returned, with the options `port`, `cpus`, `memory` and `env`.
    :param image: what `EnsureImageOperator` returned.
    :param registry: whose login an image that the engine has not is pulled with.
    """

    template_fields: Sequence[str] = ("plan", "image", "registry")

    def __init__(self, *, image: Any, registry: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.registry = registry

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Create or adopt the deployment; defer to the triggerer if it is not up soon.

        :raises UserError: if the endpoint serves another model, a param is wrong, or the server does not come up.
        :raises Unavailable: if the engine is away.
        """
        plan, options = self.plan, self.plan["spec"]
        hook = DockerEndpointHook(plan["conn_id"])
        spec = ServerSpec(
            endpoint=plan["endpoint"],
            deployment=plan["deployment"],
            model=plan["model"],
            version=plan["version"],
            image=self.image["image"],
            cpus=parse_cpus(options.get("cpus")),
            memory=parse_memory(options.get("memory")),
            env=parse_env(options.get("env")),
        )
        check_owner(hook.served(spec.endpoint), plan)
        if hook.engine.find_image(spec.image) is None:
            hook.engine.pull(spec.image, open_registry(self.registry).login if self.registry else None)
        hook.put_deployment(spec, options.get("port"))
        candidate = Candidate(plan["conn_id"], spec.endpoint, spec.deployment)
        deadline = time.monotonic() + _SHORT_WAIT_SECONDS
        while self._state(hook, candidate) != "ready":
            if time.monotonic() > deadline:
                self.log.info("Deployment %s is starting: waiting.", spec.deployment)
                patience = settings.ready_timeout_seconds()
                self.defer(
                    trigger=DockerDeploymentTrigger(
                        plan["conn_id"], spec.endpoint, spec.deployment, time.time() + patience
                    ),
                    method_name="execute_complete",
                    # Somewhat later than the trigger's own: for the case that no triggerer runs.
                    timeout=timedelta(seconds=patience + 300),
                )
            time.sleep(_PAUSE_SECONDS)
        return self._ready(hook)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after the wait.

        :raises UserError: if the deployment failed or was not ready in time.
        :raises Unavailable: if it was removed meanwhile.
        """
        with one_sentence(context):
            hook = DockerEndpointHook(self.plan["conn_id"])
            check_there(event)
            if "error" in event:
                discard(hook, self.plan)
                raise UserError(event["error"])
            return self._ready(hook)

    def _state(self, hook: DockerEndpointHook, candidate: Candidate) -> str:
        try:
            return candidate.state()
        except UserError:
            discard(hook, self.plan)
            raise

    def _ready(self, hook: DockerEndpointHook) -> dict[str, Any]:
        plan, options = self.plan, self.plan["spec"]
        chosen = {key: options.get(key) for key in ("cpus", "memory") if options.get(key)}
        return {
            "url": hook.url(plan["endpoint"]),
            "image": self.image["image"],
            "environment": options["lock_digest"],
            "auth": "none",
            "details": {"engine": hook.engine.address, **chosen},
        }


class DockerRetireOperator(PlanOperator):
    """Take away the deployments that a published one has replaced.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the deployments that were removed; each of their servers answered its open requests first."""
        plan = self.plan
        removed = DockerEndpointHook(plan["conn_id"]).stop_others(plan["endpoint"], plan["deployment"])
        self.log.info("Removed: %s.", ", ".join(removed) or "nothing was there to remove")
        return {"removed": removed}


class DockerRestoreOperator(RestoreOperator):
    """Undo a deploy that was not published; of one that was, remove what it replaced, if that was not done yet.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def published(self, context: Context) -> str:
        """Return what was done, in words."""
        if published_and_left(context):
            hook = DockerEndpointHook(self.plan["conn_id"])
            served = hook.served(self.plan["endpoint"])
            if served and served.live == self.plan["deployment"]:
                hook.stop_others(self.plan["endpoint"], self.plan["deployment"])
        return super().published(context)


def discard(hook: DockerEndpointHook, plan: dict[str, Any]) -> None:
    """Remove a deployment that does not serve, and a front door that it was to be the first behind."""
    endpoint, deployment = plan["endpoint"], plan["deployment"]
    try:
        served = hook.served(endpoint)
        if served is None or not served.answers or served.live == deployment:
            return
        record = Registry(MlflowHook()).find_deployment(plan["model"], plan["target"], endpoint)
        if record and record.deployment == deployment:
            return  # published earlier, and its front door is only away for a moment
        if served.live is None and served.deployments <= {deployment}:
            hook.delete_endpoint(endpoint)
        else:
            hook.delete_deployment(endpoint, deployment)
    except SlipwayError as e:
        hook.engine.log.warning("Deployment %s could not be removed (%s); the task 'restore' will.", deployment, e)
