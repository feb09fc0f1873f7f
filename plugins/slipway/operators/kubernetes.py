"""Deploy to Kubernetes: create or adopt a Deployment, wait for its rollout, retire what it replaced."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import settings
from slipway.errors import Unavailable, UserError
from slipway.hooks.kubernetes import KubernetesEndpointHook
from slipway.hooks.mlflow import MlflowHook
from slipway.kubernetes.manifests import CONTAINER, Manifest, Workload, options_of
from slipway.kubernetes.options import parse
from slipway.kubernetes.rollout import assess
from slipway.operators.base import PlanOperator, one_sentence
from slipway.operators.endpoints import RestoreOperator, check_owner
from slipway.registry import Registry
from slipway.triggers.deployment import check_there
from slipway.triggers.kubernetes import KubernetesRolloutTrigger

__all__ = ["KubernetesDeployOperator", "KubernetesRestoreOperator"]


class KubernetesDeployOperator(PlanOperator):
    """Start a deployment's pods beside those that serve, and wait until they are ready.

    Returns `url`, `image`, `auth`, `details` and `sample_values`.

    :param plan: what `ResolveVersionOperator` returned; its `conn_id` may be `connection/namespace`.
    :param image: what `EnsureImageOperator` returned.
    """

    template_fields: Sequence[str] = ("plan", "image")

    def __init__(self, *, image: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image = image

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Create or adopt the Deployment; defer to the triggerer unless it is ready already.

        :raises UserError: if the endpoint serves another model, is recorded in another place, needs an object that is
            not ours, or the cluster refuses the manifest.
        """
        plan = self.plan
        hook = KubernetesEndpointHook(plan["conn_id"])
        check_owner(hook.served(plan["endpoint"]), plan)
        self._check_place(hook)
        found = hook.put_workload(self._workload())
        if assess(found, [], [], now=datetime.now(UTC), patience=0).state == "complete":
            return self._deployed(hook, found)
        patience = settings.ready_timeout_seconds()
        self.log.info("Deployment %s is applied: waiting for its pods.", found["metadata"]["name"])
        self.defer(
            trigger=KubernetesRolloutTrigger(
                conn_id=hook.api.conn_id,
                namespace=hook.api.namespace,
                endpoint=plan["endpoint"],
                deployment=plan["deployment"],
                deadline=time.time() + patience,
                patience=settings.kubernetes_unschedulable_seconds(),
            ),
            method_name="execute_complete",
            # Somewhat later than the trigger's own: for the case that no triggerer runs.
            timeout=timedelta(seconds=patience + 300),
        )
        raise AssertionError("unreachable")

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after the wait.

        :raises UserError: if the rollout failed; what served before serves on, and the new pods are removed.
        :raises Unavailable: if the Deployment was removed meanwhile.
        """
        with one_sentence(context):
            hook = KubernetesEndpointHook(self.plan["conn_id"])
            check_there(event)
            if "error" in event:
                for line in event["log"]:
                    self.log.error("pod: %s", line)
                self._discard(hook)
                raise UserError(event["error"])
            self.log.info("%s.", event["complete"])
            found = hook.deployment(self.plan["endpoint"], self.plan["deployment"])
            if found is None:
                raise Unavailable(
                    f"Deployment {self.plan['deployment']} of endpoint '{self.plan['endpoint']}' was removed while it "
                    "was waited for: deploy again."
                )
            return self._deployed(hook, found)

    def _workload(self) -> Workload:
        plan = self.plan
        return Workload(
            endpoint=plan["endpoint"],
            deployment=plan["deployment"],
            model=plan["model"],
            version=plan["version"],
            image=self.image["image"],
            options=parse(plan["spec"]),
        )

    def _check_place(self, hook: KubernetesEndpointHook) -> None:
        """An endpoint's name stands for one place: MLflow's record would not tell two of them apart."""
        plan = self.plan
        record = Registry(MlflowHook(self.mlflow_conn_id)).find_deployment(
            plan["model"], plan["target"], plan["endpoint"]
        )
        known = record.details.get("place") if record else None
        place = _place(hook)
        if known and known != place:
            raise UserError(
                f"Endpoint '{plan['endpoint']}' of model '{plan['model']}' is on Kubernetes at {known} and not at "
                f"{place}: choose another endpoint's name, or run undeploy_kubernetes there first."
            )

    def _deployed(self, hook: KubernetesEndpointHook, found: Manifest) -> dict[str, Any]:
        endpoint, namespace = self.plan["endpoint"], hook.api.namespace
        options = options_of(found)
        inside = f"http://{endpoint}.{namespace}.svc.cluster.local"
        (container,) = (c for c in found["spec"]["template"]["spec"]["containers"] if c["name"] == CONTAINER)
        scaling = options.autoscaling
        return {
            "url": options.ingress.url if options.ingress else inside,
            "image": container["image"],
            "auth": "none",
            "details": {
                "place": _place(hook),
                "namespace": namespace,
                "deployment": found["metadata"]["name"],
                "service": endpoint,
                "replicas": f"{scaling.min_replicas} to {scaling.max_replicas}" if scaling else str(options.replicas),
            },
            "sample_values": {
                "namespace": namespace,
                "service": endpoint,
                "outside": options.ingress is not None,
            },
        }

    def _discard(self, hook: KubernetesEndpointHook) -> None:
        served = hook.served(self.plan["endpoint"])
        if served and served.live != self.plan["deployment"]:
            hook.delete_deployment(self.plan["endpoint"], self.plan["deployment"])


class KubernetesRestoreOperator(RestoreOperator):
    """Undo a deploy that was not published; of one that was, remove what it replaced.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def published(self, context: Context) -> str:
        """Return what was done, in words."""
        for name in KubernetesEndpointHook(self.plan["conn_id"]).retire(self.plan["endpoint"], self.plan["deployment"]):
            self.log.info("Deployment %s served before, and is removed.", name)
        return super().published(context)


def _place(hook: KubernetesEndpointHook) -> str:
    return f"{hook.api.conn_id}/{hook.api.namespace}"
