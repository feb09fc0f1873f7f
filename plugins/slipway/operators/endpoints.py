"""The steps that are the same on every target: switch, restore what served before, undeploy."""

from __future__ import annotations

from typing import Any

from airflow.sdk.definitions.context import Context

from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.operators.base import PlanOperator
from slipway.operators.ending import AfterAllOperator
from slipway.operators.verify import manifest_of, verify_golden
from slipway.registry import Registry
from slipway.targets import Served, SwitchingHook, switching_hook

__all__ = ["RestoreOperator", "SwitchOperator", "UndeployOperator", "check_owner", "check_undeployable", "fallback"]


class SwitchOperator(PlanOperator):
    """Let an endpoint serve the new deployment, and verify that it does.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Switch and verify; return the endpoint's live deployment.

        :raises UserError: if the endpoint is another model's, or does not give the golden output; the DAG's last
            task then restores what served before.
        """
        plan = self.plan
        hook = switching_hook(plan["target"], plan["conn_id"])
        check_owner(hook.served(plan["endpoint"]), plan)
        hook.set_live(plan["endpoint"], plan["deployment"])
        verify_golden(hook, plan["endpoint"], manifest_of(plan, self.mlflow_conn_id))
        return {"live": plan["deployment"]}


class RestoreOperator(AfterAllOperator, PlanOperator):
    """Undo a deploy that was not published: what served before serves on, and nothing new stays.

    It runs however the deploy ended: also where it was cancelled or killed, or refused before anything was made. What
    MLflow records and the target says decides, not what earlier tasks of this run returned: another run may have
    published meanwhile, and a run that is cleared has results of its first time.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> str:
        """Return what was done, in words.

        :raises Unavailable: if it cannot be undone now.
        """
        plan = self.plan
        hook = switching_hook(plan["target"], plan["conn_id"])
        registry = Registry(MlflowHook(self.mlflow_conn_id))
        record = registry.find_deployment(plan["model"], plan["target"], plan["endpoint"])
        recorded = record.deployment if record else None
        if recorded == plan["deployment"]:
            done = self.published(context)
        else:
            try:
                done = self._restore(context, hook, recorded)
            except UserError as e:
                # What cannot be undone at this moment may be in the next: the endpoint has changed meanwhile.
                raise Unavailable(str(e)) from None
        self.log.info("%s", done)
        return done

    def published(self, context: Context) -> str:  # noqa: ARG002
        """Finish what comes after publishing, where the run did not come to it; return what was done, in words."""
        return "The deployment is published: nothing to undo."

    def owns(self, context: Context, served: Served) -> bool:  # noqa: ARG002
        """Whether nothing is there of an endpoint but what this deploy made."""
        return served.deployments <= {self.plan["deployment"]}

    def _restore(self, context: Context, hook: SwitchingHook, recorded: str | None) -> str:
        endpoint, ours = self.plan["endpoint"], self.plan["deployment"]
        served = hook.served(endpoint)
        if served is None:
            return f"Endpoint '{endpoint}' is not there: nothing to undo."
        if served.model not in {None, self.plan["model"]}:
            if ours in served.deployments:
                hook.delete_deployment(endpoint, ours)
            return f"Endpoint '{endpoint}' is model '{served.model}'s, and nothing of this run is there (any more)."
        if self.owns(context, served):
            hook.delete_endpoint(endpoint)
            return f"Endpoint '{endpoint}' was new, or had nothing left to serve, and is removed again."
        if not served.answers:
            raise Unavailable(f"What endpoint '{endpoint}' serves cannot be told, so nothing of it is removed now.")
        serves = served.live
        if serves in {ours, None}:
            serves = fallback(served, recorded, ours)
            if serves is not None:
                hook.set_live(endpoint, serves)
        hook.delete_deployment(endpoint, ours)
        return f"Deployment {ours} is not there (any more); endpoint '{endpoint}' serves {serves or 'nothing'}."


class UndeployOperator(PlanOperator):
    """Drain and remove an endpoint.

    :param plan: what `ResolveDeploymentOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return which endpoint was removed. A half-removed endpoint is finished.

        :raises NotFound: if neither the target nor MLflow knows the endpoint.
        :raises UserError: if it is another model's.
        """
        plan = self.plan
        hook = switching_hook(plan["target"], plan["conn_id"])
        check_undeployable(hook.served(plan["endpoint"]), plan)
        hook.delete_endpoint(plan["endpoint"])
        return {"endpoint": plan["endpoint"]}


def fallback(served: Served, recorded: str | None, ours: str) -> str | None:
    """Return the deployment that is to serve in place of `ours`: the recorded one, else the previous one, if there.

    Where nothing serves, only the recorded one: what else is there may be another run's that is not verified yet.
    """
    usable = served.deployments - {ours}
    wanted = (recorded, served.previous) if served.live else (recorded,)
    return next((there for there in wanted if there in usable), None)


def check_owner(served: Served | None, plan: dict[str, Any]) -> None:
    """Check that an endpoint is the plan's model's, or nobody's.

    :raises UserError: if it serves another model.
    """
    if served and served.model and served.model != plan["model"]:
        raise UserError(
            f"Endpoint '{plan['endpoint']}' serves model '{served.model}' and not '{plan['model']}': "
            f"choose another endpoint, or run undeploy_{plan['target']} for '{served.model}' first."
        )


def check_undeployable(served: Served | None, plan: dict[str, Any]) -> None:
    """Check that there is something of the plan's model to undeploy.

    :raises NotFound: if neither the target nor MLflow knows the endpoint.
    :raises UserError: if it is another model's.
    """
    if served is None and plan["record"] is None:
        raise NotFound(
            f"Model '{plan['model']}' is not deployed to endpoint '{plan['endpoint']}' on {plan['target']}: "
            f"there is nothing to undeploy; deploy_{plan['target']} puts it there."
        )
    check_owner(served, plan)
