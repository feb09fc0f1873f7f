"""The steps that are the same on every target: switch, restore what served before, undeploy."""

from __future__ import annotations

from typing import Any

from airflow.sdk.definitions.context import Context

from slipway.errors import NotFound, UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.operators.base import PlanOperator
from slipway.operators.verify import manifest_of, verify_golden
from slipway.registry import Registry
from slipway.targets import EndpointHook, Served, endpoint_hook

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
        hook = endpoint_hook(plan["target"], plan["conn_id"])
        check_owner(hook.served(plan["endpoint"]), plan)
        hook.set_live(plan["endpoint"], plan["deployment"])
        verify_golden(hook, plan["endpoint"], manifest_of(plan, self.mlflow_conn_id))
        return {"live": plan["deployment"]}


class RestoreOperator(PlanOperator):
    """Undo a deploy that was not published: what served before serves on, and nothing new stays.

    What MLflow records decides, not what earlier tasks of this run returned: another run may have published
    meanwhile, and a run that is cleared has results of its first time.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> str:  # noqa: ARG002
        """Return what was done, in words."""
        plan = self.plan
        hook = endpoint_hook(plan["target"], plan["conn_id"])
        done = self._restore(hook, plan["endpoint"], plan["deployment"])
        self.log.info("%s", done)
        return done

    def _restore(self, hook: EndpointHook, endpoint: str, ours: str) -> str:
        registry = Registry(MlflowHook(self.mlflow_conn_id))
        record = registry.find_deployment(self.plan["model"], self.plan["target"], endpoint)
        recorded = record.deployment if record else None
        if recorded == ours:
            return "The deployment is published: nothing to undo."
        served = hook.served(endpoint)
        if served is None:
            return f"Endpoint '{endpoint}' is not there: nothing to undo."
        serves = served.live
        if serves in {ours, None}:
            serves = fallback(served, recorded, ours)
            if serves is None and served.deployments <= {ours}:
                hook.delete_endpoint(endpoint)
                return f"Endpoint '{endpoint}' was new, and is removed again."
            if serves is not None:
                hook.set_live(endpoint, serves)
        hook.delete_deployment(endpoint, ours)
        return f"Deployment {ours} is removed; endpoint '{endpoint}' serves {serves or 'nothing'}."


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
        hook = endpoint_hook(plan["target"], plan["conn_id"])
        check_undeployable(hook.served(plan["endpoint"]), plan)
        hook.delete_endpoint(plan["endpoint"])
        return {"endpoint": plan["endpoint"]}


def fallback(served: Served, recorded: str | None, ours: str) -> str | None:
    """Return the deployment that is to serve in place of `ours`: the recorded one, else the previous one, if there."""
    usable = served.deployments - {ours}
    return next((there for there in (recorded, served.previous) if there in usable), None)


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
