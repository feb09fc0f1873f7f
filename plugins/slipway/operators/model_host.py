"""Deploy to the model host: create or adopt, and wait."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import settings
from slipway.errors import Unavailable, UserError
from slipway.hooks.model_host import PENDING, ModelHostHook
from slipway.operators.base import PlanOperator, one_sentence
from slipway.operators.endpoints import check_owner
from slipway.triggers.deployment import check_there
from slipway.triggers.model_host import ModelHostDeploymentTrigger

__all__ = ["ModelHostDeployOperator"]

# A server in a warm environment is up within this time, sooner than a trip to the triggerer and back.
_SHORT_WAIT_SECONDS = 8.0


class ModelHostDeployOperator(PlanOperator):
    """Start a deployment beside what the endpoint serves, and wait until it is ready.

    Returns `deployment`, `url`, `environment`, `auth` and `token_url`.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Create or adopt the deployment; defer to the triggerer if it is not up soon.

        :raises UserError: if the endpoint serves another model, or the scoring server does not come up.
        :raises Unavailable: if another deploy of the endpoint is in the making, or its files cannot be fetched.
        """
        plan = self.plan
        hook = ModelHostHook(plan["conn_id"])
        check_owner(hook.served(plan["endpoint"]), plan)
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
        :raises Unavailable: if it was removed meanwhile.
        """
        with one_sentence(context):
            hook = ModelHostHook(self.plan["conn_id"])
            check_there(event)
            if "error" in event:
                discard(hook, self.plan)
                raise UserError(event["error"])
            return self._ready(hook, event["deployment"])

    def _ready(self, hook: ModelHostHook, deployment: dict[str, Any]) -> dict[str, Any]:
        if deployment["state"] == "failed":
            for line in deployment.get("log_tail") or []:
                self.log.error("scoring server: %s", line)
            discard(hook, self.plan)
            raise (Unavailable if deployment["passing"] else UserError)(str(deployment["error"]))
        auth = deployment["auth"]
        return {
            "deployment": self.plan["deployment"],
            "url": deployment["url"],
            "environment": self.plan["spec"]["lock_digest"],
            "auth": auth,
            "token_url": hook.token_url(self.plan["endpoint"]) if auth == "token" else None,
        }


def discard(hook: ModelHostHook, plan: dict[str, Any]) -> None:
    """Remove the plan's deployment, unless it is live."""
    live = (hook.find_endpoint(plan["endpoint"]) or {}).get("live")
    if live != plan["deployment"]:
        hook.delete_deployment(plan["endpoint"], plan["deployment"])
