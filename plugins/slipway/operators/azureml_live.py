"""What happens to an endpoint in AzureML that serves: shift its traffic, retire what served before, undeploy."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NoReturn

from airflow.sdk.definitions.context import Context

from slipway.azureml import names, ownership, traffic
from slipway.azureml.arm import state_of
from slipway.errors import UserError
from slipway.hooks.azureml import AzureMLEndpointHook, endpoint_path, traffic_of
from slipway.operators.azureml_base import FAILED, AzureMLOperator
from slipway.operators.base import run_of
from slipway.operators.ending import published_and_left
from slipway.operators.endpoints import RestoreOperator, check_owner, check_undeployable
from slipway.operators.verify import manifest_of, verify_golden
from slipway.targets import Served

__all__ = ["AzureMLRestoreOperator", "AzureMLRetireOperator", "AzureMLShiftOperator", "AzureMLUndeployOperator"]


class AzureMLShiftOperator(AzureMLOperator):
    """Move the endpoint's traffic to the new deployment step by step, and verify at each.

    :param plan: what `ResolveVersionOperator` returned.
    :param traffic: the steps; see `slipway.azureml.traffic.Plan`.
    """

    template_fields: Sequence[str] = ("plan", "traffic")

    def __init__(self, *, traffic: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.traffic = traffic
        self._rested = False

    def advance(self, context: Context, hook: AzureMLEndpointHook, deadline: float) -> dict[str, Any]:  # noqa: ARG002
        """Shift, and return the endpoint's live deployment.

        :raises UserError: if the deployment does not give the golden output; the DAG's last task then restores what
            served before.
        """
        plan, shift = self.plan, traffic.Plan.read(self.traffic)
        endpoint, ours = plan["endpoint"], plan["deployment"]
        check_owner(hook.served(endpoint), plan)
        manifest = manifest_of(plan, self.mlflow_conn_id)
        while True:
            self.wait(hook, endpoint_path(endpoint), deadline)
            found = hook.endpoint(endpoint)
            if found is None:
                raise UserError(f"Endpoint '{endpoint}' is gone: somebody removed it while it was being deployed to.")
            shares, mirrored = traffic_of(found), traffic_of(found, "mirrorTraffic")
            share = shares.get(ours, 0)
            verify_golden(hook, endpoint, manifest, deployment=ours)
            if share == 100:
                verify_golden(hook, endpoint, manifest)
                self._tag(hook, deadline)
                return {"live": ours}
            if (share or mirrored) and shift.wait and not self._rested:
                self._pause(shift.wait, deadline)
            self._rested = False
            if not share and not mirrored and shift.mirror and shares:
                self.log.info("%s %% of the requests are mirrored to deployment %s.", shift.mirror, ours)
                operation = hook.set_traffic(endpoint, shares, {ours: shift.mirror})
            else:
                shares = traffic.shared(shares, ours, shift.after(share))
                self.log.info("Deployment %s gets %s %% of the traffic.", ours, shares[ours])
                operation = hook.set_traffic(endpoint, shares)
            self.wait(hook, endpoint_path(endpoint), deadline, operation)

    def _tag(self, hook: AzureMLEndpointHook, deadline: float) -> None:
        """Have the plan's tags on what was there before: of an endpoint, and of a deployment that was adopted."""
        endpoint = self.plan["endpoint"]
        for path in (endpoint_path(endpoint), endpoint_path(endpoint, self.plan["deployment"])):
            self.wait(hook, path, deadline)
            found = hook.arm.get(path) or {}
            if tags := ownership.tags_to_set(found, self.plan):
                if state_of(found) in FAILED:  # perhaps of the same change, which would fail again
                    self.failed(hook, None)
                hook.arm.patch(path, {"tags": tags})
                self.wait(hook, path, deadline)

    def _pause(self, seconds: float, deadline: float) -> NoReturn:
        from airflow.providers.standard.triggers.temporal import TimeDeltaTrigger

        self.defer_to(TimeDeltaTrigger(timedelta(seconds=seconds)), deadline + seconds)

    def execute_complete(self, context: Context, event: Any, deadline: float) -> Any:
        """Go on after a wait for Azure, or after a pause between two steps."""
        # Only after a pause has the share that the deployment has been held for as long as it should.
        self._rested = not isinstance(event, dict)
        known = {"state": "Succeeded", "operation": None} if self._rested else event
        return super().execute_complete(context, known, deadline)


class AzureMLRetireOperator(AzureMLOperator):
    """Remove the deployments that the new one has replaced. Those that others made are left alone.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def advance(self, context: Context, hook: AzureMLEndpointHook, deadline: float) -> list[str]:  # noqa: ARG002
        """Return what was removed by this try."""
        endpoint = self.plan["endpoint"]
        old = hook.replaced(endpoint, self.plan["deployment"])
        for name in old:
            hook.begin_delete(endpoint, name)
        for name in old:
            self.wait(hook, endpoint_path(endpoint, name), deadline)
            self.log.info("Deployment %s, which served before, is removed.", name)
        return old


class AzureMLRestoreOperator(RestoreOperator):
    """Undo a deploy that was not published; of one that was, have removed what it replaced, if that was not done yet.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def published(self, context: Context) -> str:
        """Return what was done, in words."""
        if published_and_left(context):
            hook = AzureMLEndpointHook(self.plan["conn_id"])
            for name in hook.replaced(self.plan["endpoint"], self.plan["deployment"]):
                hook.begin_delete(self.plan["endpoint"], name)
        return super().published(context)

    def owns(self, context: Context, served: Served) -> bool:
        """Whether nothing is there of the endpoint but what this run made."""
        if served.deployments:
            return super().owns(context, served)
        # Without a deployment it may be another run's that is about to make one.
        found = AzureMLEndpointHook(self.plan["conn_id"]).endpoint(self.plan["endpoint"])
        return found is not None and ownership.made_by(found, run_of(context))


class AzureMLUndeployOperator(AzureMLOperator):
    """Remove an endpoint's deployments, then the endpoint; only what carries Slipway's tags.

    :param plan: what `ResolveDeploymentOperator` returned.
    :param assets: remove the model's assets, too, but for those that other endpoints use.
    """

    template_fields: Sequence[str] = ("plan", "assets")

    def __init__(self, *, assets: Any = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.assets = assets

    def run(self, context: Context) -> dict[str, Any]:
        """Return which endpoint was removed. A half-removed endpoint is finished.

        :raises NotFound: if neither Azure nor MLflow knows the endpoint.
        :raises UserError: if it is another model's, or was not made by Slipway.
        """
        check_undeployable(self.azure().served(self.plan["endpoint"]), self.plan)
        return dict(super().run(context))

    def advance(self, context: Context, hook: AzureMLEndpointHook, deadline: float) -> dict[str, Any]:  # noqa: ARG002
        """Go on with what is left of it."""
        plan = self.plan
        endpoint, path = plan["endpoint"], endpoint_path(plan["endpoint"])
        found = hook.endpoint(endpoint)
        ownership.check(found, plan)
        self.wait(hook, path, deadline)
        deployments = hook.deployments(endpoint)
        foreign = sorted(name for name, d in deployments.items() if not names.of_slipway(d))
        ours = [name for name, d in deployments.items() if names.of_slipway(d)]
        if found and traffic_of(found):
            left = {name: share for name, share in traffic_of(found).items() if name in foreign and share == 100}
            self.wait(hook, path, deadline, hook.set_traffic(endpoint, left))
        for name in ours:
            hook.begin_delete(endpoint, name)
        for name in ours:
            self.wait(hook, f"{path}/deployments/{name}", deadline)
        if foreign:
            raise UserError(
                f"Endpoint '{endpoint}' has deployments that Slipway did not make ({', '.join(foreign)}): Slipway's "
                "own are removed, the endpoint stays; remove the others in AzureML, then undeploy again."
            )
        hook.begin_delete(endpoint)
        self.wait(hook, path, deadline)
        if self.assets:
            for name in hook.remove_models(plan["model"]):
                self.log.info("Model asset %s is removed.", name)
        return {"endpoint": endpoint}
