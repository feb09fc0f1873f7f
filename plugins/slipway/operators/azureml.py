"""Deploy to AzureML, up to where the deployment is there without traffic: check, create or adopt."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from airflow.sdk.definitions.context import Context
from airflow.sdk.exceptions import AirflowSkipException

from slipway import settings
from slipway.azureml import names, ownership, traffic
from slipway.azureml.arm import state_of
from slipway.azureml.autoscale import Autoscaling
from slipway.azureml.failures import explained_operation
from slipway.errors import SlipwayError, Unavailable, UserError
from slipway.hooks.azureml import AzureMLEndpointHook, endpoint_path, traffic_of
from slipway.hooks.mlflow import MlflowHook
from slipway.model_download import download_model
from slipway.operators.azureml_base import AzureMLOperator
from slipway.operators.base import PlanOperator, run_of
from slipway.operators.endpoints import check_owner
from slipway.registry import Registry

__all__ = ["AzureMLCheckOperator", "AzureMLDeployOperator"]


class AzureMLCheckOperator(PlanOperator):
    """Check what can be known before anything is built: names, options, the workspace, whose the endpoint is.

    Returns the `changes` that the deploy is going to make, in words.

    :param plan: what `ResolveVersionOperator` returned.
    :param traffic: how traffic is to be shifted; see `slipway.azureml.traffic.Plan`.
    :param dry: end here: the run's other tasks are skipped.
    """

    template_fields: Sequence[str] = ("plan", "traffic", "dry")

    def __init__(self, *, traffic: Any = None, dry: Any = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.traffic = traffic
        self.dry = dry

    def run(self, context: Context) -> dict[str, Any]:
        """Check, and say what is going to change.

        :raises UserError: if a name or an option is not allowed, or the endpoint is somebody else's.
        """
        plan = self.plan
        names.check_endpoint(plan["endpoint"])
        names.check_tags(plan.get("tags"))
        names.check_identity(plan.get("identity"))
        Autoscaling.read(plan["spec"].get("autoscaling"))
        shift = traffic.Plan.read(self.traffic)
        hook = AzureMLEndpointHook(plan["conn_id"])
        hook.check()
        found = hook.endpoint(plan["endpoint"])
        ownership.check(found, plan)
        check_owner(hook.served(plan["endpoint"]) if found else None, plan)
        changes = ownership.changes(found, hook.deployments(plan["endpoint"]) if found else {}, plan, shift)
        for change in changes:
            self.log.info("%s", change)
        if self.dry:
            context["ti"].xcom_push("dry_run", changes)
            raise AirflowSkipException("A dry run: nothing was changed.")
        return {"changes": changes}


class AzureMLDeployOperator(AzureMLOperator):
    """Have the deployment up beside what the endpoint serves, without traffic.

    Returns `url`, `image`, `auth`, `console_url`, `details` and `sample_values`.

    :param plan: what `ResolveVersionOperator` returned.
    :param image: what `EnsureImageOperator` returned, or an image's reference.
    :param traffic: how traffic is going to be shifted: that long the endpoint is claimed.
    """

    template_fields: Sequence[str] = ("plan", "image", "traffic")

    def __init__(self, *, image: Any, traffic: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.traffic = traffic

    def advance(self, context: Context, hook: AzureMLEndpointHook, deadline: float) -> dict[str, Any]:
        plan, run = self.plan, run_of(context)
        path, own_path = endpoint_path(plan["endpoint"]), endpoint_path(plan["endpoint"], plan["deployment"])
        self.wait(hook, path, deadline)
        endpoint = hook.endpoint(plan["endpoint"])
        ownership.check(endpoint, plan)
        if endpoint is None or state_of(endpoint) in {"Failed", "Canceled"}:
            endpoint = self._create_endpoint(hook, run, path, deadline)
        ownership.check(endpoint, plan)
        check_owner(hook.served(plan["endpoint"]), plan)
        self.wait(hook, own_path, deadline)
        deployments = hook.deployments(plan["endpoint"])
        try:
            ownership.check_free(deployments, traffic_of(endpoint), plan, run)
        except Unavailable:
            if (ours := deployments.get(plan["deployment"])) and ownership.made_by(ours, run):
                self._discard(hook)
            raise
        ours = deployments.get(plan["deployment"])
        if state_of(ours) in {"Failed", "Canceled"}:
            self.log.info("Deployment %s failed in an earlier try: it is made anew.", plan["deployment"])
            hook.delete_deployment(plan["endpoint"], plan["deployment"])
            ours = None
        if ours is None:
            operation = self._create_deployment(hook, run)
            self.wait(hook, own_path, deadline, operation)
            # Once more from the top: somebody else may have begun at the same moment.
            return self.advance(context, hook, deadline)
        if rules := Autoscaling.read(plan["spec"].get("autoscaling")):
            hook.scale(plan, rules)
        return self._described(hook, endpoint)

    def _create_endpoint(self, hook: AzureMLEndpointHook, run: str, path: str, deadline: float) -> dict[str, Any]:
        try:
            operation = hook.client.begin_endpoint(self.plan, {names.RUN: run})
        except Unavailable as e:
            if "exist" in str(e) and hook.endpoint(self.plan["endpoint"]) is None:
                raise UserError(
                    f"The name '{self.plan['endpoint']}' is taken by another endpoint in this Azure region: choose "
                    "another endpoint name."
                ) from None
            raise
        self.wait(hook, path, deadline, operation)
        endpoint = hook.endpoint(self.plan["endpoint"])
        if endpoint is None:
            raise Unavailable(f"Endpoint '{self.plan['endpoint']}' was removed while it was being made.")
        return endpoint

    def _create_deployment(self, hook: AzureMLEndpointHook, run: str) -> str | None:
        plan = self.plan
        image = self.image["image"] if isinstance(self.image, dict) else str(self.image)
        client = hook.client
        asset = f"/models/{plan['model']}/versions/{names.model_version(plan['spec'])}"
        known = hook.arm.get(asset)
        if known:
            model = str(known["id"])
        else:
            version = Registry(MlflowHook(self.mlflow_conn_id)).resolve(plan["model"], plan["version"])
            with tempfile.TemporaryDirectory(prefix="slipway-azureml-") as folder:
                model = client.ensure_model(plan, download_model(version, Path(folder), self.mlflow_conn_id))
        environment = client.ensure_environment(plan, image)
        claim = settings.ready_timeout_seconds() + traffic.Plan.read(self.traffic).patience
        tags = {names.RUN: run, names.CLAIMED_UNTIL: str(int(time.time() + claim))}
        if plan["spec"].get("autoscaling"):
            tags[names.AUTOSCALED] = "yes"
        self.log.info("Deployment %s is made of %s and %s.", plan["deployment"], model, image)
        return client.begin_deployment(plan, model, environment, tags)

    def _described(self, hook: AzureMLEndpointHook, endpoint: dict[str, Any]) -> dict[str, Any]:
        plan, workspace = self.plan, hook.workspace
        spec = plan["spec"]
        return {
            "url": endpoint["properties"]["scoringUri"],
            "image": self.image["image"] if isinstance(self.image, dict) else str(self.image),
            "auth": spec["auth_mode"],
            "console_url": workspace.studio_url(plan["endpoint"]),
            "details": {
                "instance_type": spec["instance_type"],
                "instance_count": spec["instance_count"],
                "region": endpoint.get("location"),
                "workspace": workspace.name,
                "resource_group": workspace.resource_group,
                "subscription": workspace.subscription_id,
            },
            "sample_values": {
                "endpoint": plan["endpoint"],
                "auth": spec["auth_mode"],
                "workspace": workspace.name,
                "resource_group": workspace.resource_group,
                "subscription": workspace.subscription_id,
                "resource": workspace.cloud.machine_learning,
            },
        }

    def failed(self, hook: AzureMLEndpointHook, error: dict[str, Any] | None) -> NoReturn:
        plan = self.plan
        log = hook.logs(plan["endpoint"], plan["deployment"])
        for line in log.splitlines():
            self.log.error("container: %s", line)
        what = f"Deployment {plan['deployment']} of endpoint '{plan['endpoint']}'"
        self.give_up(hook, explained_operation(what, error, log))

    def give_up(self, hook: AzureMLEndpointHook, error: Exception) -> NoReturn:
        try:
            self._discard(hook)
        except SlipwayError as e:
            self.log.warning("What was begun could not be removed: %s", e)
        raise error

    def _discard(self, hook: AzureMLEndpointHook) -> None:
        """Remove the deployment unless it serves, and the endpoint if nothing is left of it."""
        plan = self.plan
        found = hook.endpoint(plan["endpoint"])
        if found is None or traffic_of(found).get(plan["deployment"]):
            return
        hook.delete_deployment(plan["endpoint"], plan["deployment"])
        if names.of_slipway(found) and not hook.deployments(plan["endpoint"]):
            hook.delete_endpoint(plan["endpoint"])
