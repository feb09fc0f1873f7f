"""Deploy to the model host: create or adopt, wait, switch, restore, undeploy."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import settings
from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.hooks.model_host import PENDING, ModelHostHook
from slipway.operators.base import PlanOperator, one_sentence
from slipway.operators.verify import manifest_of, verify_golden
from slipway.registry import Registry
from slipway.triggers.model_host import ModelHostDeploymentTrigger

__all__ = [
    "ModelHostDeployOperator",
    "ModelHostRestoreOperator",
    "ModelHostSwitchOperator",
    "ModelHostUndeployOperator",
]

# A server in a warm environment is up within this time, sooner than a trip to the triggerer and back.
_SHORT_WAIT_SECONDS = 8.0


class ModelHostDeployOperator(PlanOperator):
    """Start a deployment beside what the endpoint serves, and wait until it is ready.

    Returns `url`, `environment`, `auth` and `token_url`.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Create or adopt the deployment; defer to the triggerer if it is not up soon.

        :raises UserError: if the endpoint serves another model, or the scoring server does not come up.
        :raises Unavailable: if another deploy of the endpoint is in the making, or its files cannot be fetched.
        """
        plan = self.plan
        hook = ModelHostHook(plan["conn_id"])
        check_owner(hook, plan)
        hook.put_deployment(plan["endpoint"], plan["deployment"], plan["spec"])
        deployment = hook.get_deployment(plan["endpoint"], plan["deployment"], wait=_SHORT_WAIT_SECONDS)
        if deployment["state"] in PENDING:
            self.log.info("Deployment %s is %s: waiting.", plan["deployment"], deployment["state"])
            patience = settings.ready_timeout_seconds()
            self.defer(
                trigger=ModelHostDeploymentTrigger(
                    plan["conn_id"], plan["endpoint"], plan["deployment"], time.time() + patience
                ),
                method_name="execute_complete",
                # Somewhat later than the trigger's own: for the case that no triggerer runs.
                timeout=timedelta(seconds=patience + 300),
            )
        return self._ready(hook, deployment)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """Go on after the wait.

        :raises UserError: if the deployment failed or was not ready in time.
        """
        with one_sentence(context):
            hook = ModelHostHook(self.plan["conn_id"])
            if "error" in event:
                discard(hook, self.plan)
                raise UserError(event["error"])
            return self._ready(hook, event["deployment"])

    def on_kill(self) -> None:
        """Leave nothing behind when the task is cleared or marked while it runs."""
        if isinstance(self.plan, dict):
            discard(ModelHostHook(self.plan["conn_id"]), self.plan)

    def _ready(self, hook: ModelHostHook, deployment: dict[str, Any]) -> dict[str, Any]:
        if deployment["state"] == "failed":
            for line in deployment.get("log_tail") or []:
                self.log.error("scoring server: %s", line)
            discard(hook, self.plan)
            raise (Unavailable if deployment["passing"] else UserError)(str(deployment["error"]))
        auth = deployment["auth"]
        return {
            "url": deployment["url"],
            "environment": self.plan["spec"]["lock_digest"],
            "auth": auth,
            "token_url": hook.token_url(self.plan["endpoint"]) if auth == "token" else None,
        }


class ModelHostSwitchOperator(PlanOperator):
    """Let an endpoint serve the new deployment, and verify that it does; the old one drains.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Switch and verify; return the endpoint's live deployment.

        :raises UserError: if the live endpoint does not give the golden output; the DAG's last task then
            restores what served before.
        """
        plan = self.plan
        hook = ModelHostHook(plan["conn_id"])
        check_owner(hook, plan)
        hook.set_live(plan["endpoint"], plan["deployment"])
        verify_golden(hook, plan["endpoint"], manifest_of(plan, self.mlflow_conn_id))
        return {"live": plan["deployment"]}


class ModelHostRestoreOperator(PlanOperator):
    """Undo a deploy that was not published: what served before serves on, and nothing new stays.

    What MLflow records decides, not what earlier tasks of this run returned: another run may have published
    meanwhile, and a run that is cleared has results of its first time.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> str:  # noqa: ARG002
        """Return what was done, in words."""
        done = self._restore()
        self.log.info("%s", done)
        return done

    def _restore(self) -> str:
        plan = self.plan
        endpoint, ours = plan["endpoint"], plan["deployment"]
        record = Registry(MlflowHook(self.mlflow_conn_id)).find_deployment(plan["model"], plan["target"], endpoint)
        if record and record.deployment == ours:
            return "The deployment is published: nothing to undo."
        hook = ModelHostHook(plan["conn_id"])
        found = hook.find_endpoint(endpoint)
        if found is None:
            return f"Endpoint '{endpoint}' is not there: nothing to undo."
        serves = found["live"]
        if serves == ours:
            there = {deployment["id"] for deployment in found["deployments"]}
            serves = record.deployment if record and record.deployment in there else found["previous"]
            if serves is None:
                hook.delete_endpoint(endpoint)
                return f"Endpoint '{endpoint}' was new, and is removed again."
            hook.set_live(endpoint, serves)
        hook.delete_deployment(endpoint, ours)
        return f"Deployment {ours} is removed; endpoint '{endpoint}' serves {serves or 'nothing'}."


class ModelHostUndeployOperator(PlanOperator):
    """Drain and remove an endpoint.

    :param plan: what `ResolveDeploymentOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return which endpoint was removed. A half-removed endpoint is finished.

        :raises NotFound: if neither the host nor MLflow knows the endpoint.
        :raises UserError: if it serves another model.
        """
        plan = self.plan
        hook = ModelHostHook(plan["conn_id"])
        if hook.find_endpoint(plan["endpoint"]) is None and plan["record"] is None:
            raise NotFound(
                f"Model '{plan['model']}' is not deployed to endpoint '{plan['endpoint']}' on mlflow: "
                "there is nothing to undeploy; deploy_mlflow puts it there."
            )
        check_owner(hook, plan)
        hook.delete_endpoint(plan["endpoint"])
        return {"endpoint": plan["endpoint"]}


def check_owner(hook: ModelHostHook, plan: dict[str, Any]) -> None:
    """Check that an endpoint serves the plan's model, or nothing.

    :raises UserError: if it serves another model.
    """
    found = hook.find_endpoint(plan["endpoint"]) or {"live": None, "deployments": []}
    served = next((d["model"] for d in found["deployments"] if d["id"] == found["live"]), plan["model"])
    if served != plan["model"]:
        raise UserError(
            f"Endpoint '{plan['endpoint']}' serves model '{served}' and not '{plan['model']}': "
            f"choose another endpoint, or run undeploy_mlflow for '{served}' first."
        )


def discard(hook: ModelHostHook, plan: dict[str, Any]) -> None:
    """Remove the plan's deployment, unless it is live."""
    live = (hook.find_endpoint(plan["endpoint"]) or {}).get("live")
    if live != plan["deployment"]:
        hook.delete_deployment(plan["endpoint"], plan["deployment"])
