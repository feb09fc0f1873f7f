"""Deploy to the model host: create or adopt, wait, switch, restore, undeploy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway.errors import NotFound, UserError
from slipway.hooks.model_host import PENDING, ModelHostHook
from slipway.operators.base import SlipwayOperator, one_sentence
from slipway.operators.verify import manifest_of, verify_golden
from slipway.triggers.model_host import ModelHostDeploymentTrigger

__all__ = [
    "ModelHostDeployOperator",
    "ModelHostRestoreOperator",
    "ModelHostSwitchOperator",
    "ModelHostUndeployOperator",
]

# A server in a warm environment is up within this time, sooner than a trip to the triggerer and back.
_SHORT_WAIT_SECONDS = 8.0


class ModelHostDeployOperator(SlipwayOperator):
    """Start a deployment beside what the endpoint serves, and wait until it is ready.

    Returns `url`, `environment`, `auth`, `token_url`, and `live_before`: the deployment that served before.

    :param plan: what `ResolveVersionOperator` returned.
    :param ready_timeout_seconds: how long making the environment and starting the server may take.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(self, *, plan: Any, ready_timeout_seconds: float = 1800, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.ready_timeout_seconds = ready_timeout_seconds

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Create or adopt the deployment; defer to the triggerer if it is not up soon.

        :raises UserError: if the endpoint serves another model, another deploy of it is going on, or the
            scoring server does not come up.
        """
        plan = self.plan
        hook = ModelHostHook(plan["conn_id"])
        found = hook.find_endpoint(plan["endpoint"])
        self._check_owner(found)
        spec = {key: plan[key] for key in ("model", "version", "model_uri", "artifact_uri", "lock_digest")}
        hook.put_deployment(plan["endpoint"], plan["deployment"], spec | plan["options"])
        deployment = hook.get_deployment(plan["endpoint"], plan["deployment"], wait=_SHORT_WAIT_SECONDS)
        live_before = found["live"] if found else None
        if deployment["state"] in PENDING:
            self.log.info("Deployment %s is %s: waiting.", plan["deployment"], deployment["state"])
            self.defer(
                trigger=ModelHostDeploymentTrigger(
                    plan["conn_id"],
                    plan["endpoint"],
                    plan["deployment"],
                    time.time() + self.ready_timeout_seconds,
                ),
                method_name="execute_complete",
                kwargs={"live_before": live_before},
            )
        return self._ready(hook, deployment, live_before)

    def execute_complete(self, context: Context, event: dict[str, Any], live_before: str | None) -> dict[str, Any]:
        """Go on after the wait.

        :raises UserError: if the deployment failed or was not ready in time.
        """
        with one_sentence(context):
            hook = ModelHostHook(self.plan["conn_id"])
            if "error" in event:
                self._discard(hook)
                raise UserError(event["error"])
            return self._ready(hook, event["deployment"], live_before)

    def on_kill(self) -> None:
        """Leave nothing behind when the task is cleared or marked while it runs."""
        if isinstance(self.plan, dict):
            self._discard(ModelHostHook(self.plan["conn_id"]))

    def _check_owner(self, found: dict[str, Any] | None) -> None:
        for deployment in (found or {}).get("deployments", []):
            if deployment["id"] == (found or {})["live"] and deployment["model"] != self.plan["model"]:
                raise UserError(
                    f"Endpoint '{self.plan['endpoint']}' serves model '{deployment['model']}': choose another "
                    f"endpoint for '{self.plan['model']}', or run undeploy_mlflow for '{deployment['model']}' first."
                )

    def _ready(self, hook: ModelHostHook, deployment: dict[str, Any], live_before: str | None) -> dict[str, Any]:
        if deployment["state"] == "failed":
            for line in deployment.get("log_tail") or []:
                self.log.error("scoring server: %s", line)
            self._discard(hook)
            raise UserError(str(deployment["error"]))
        endpoint = self.plan["endpoint"]
        auth = self.plan["options"].get("auth", "none")
        return {
            "url": deployment["url"],
            "environment": self.plan["lock_digest"],
            "auth": auth,
            "token_url": hook.token_url(endpoint) if auth == "token" else None,
            "live_before": live_before,
        }

    def _discard(self, hook: ModelHostHook) -> None:
        live = (hook.find_endpoint(self.plan["endpoint"]) or {}).get("live")
        if live != self.plan["deployment"]:
            hook.delete_deployment(self.plan["endpoint"], self.plan["deployment"])


class ModelHostSwitchOperator(SlipwayOperator):
    """Let an endpoint serve the new deployment, and verify that it does; the old one drains.

    :param plan: what `ResolveVersionOperator` returned.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(self, *, plan: Any, mlflow_conn_id: str = "mlflow_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Switch and verify; return the endpoint's live deployment.

        :raises UserError: if the live endpoint does not give the golden output; the DAG's last task then
            restores what served before.
        """
        plan = self.plan
        hook = ModelHostHook(plan["conn_id"])
        hook.set_live(plan["endpoint"], plan["deployment"])
        verify_golden(hook, plan["endpoint"], manifest_of(plan, self.mlflow_conn_id))
        return {"live": plan["deployment"]}


class ModelHostRestoreOperator(SlipwayOperator):
    """Undo a deploy that was not published: what served before serves on, and nothing new stays.

    :param plan: what `ResolveVersionOperator` returned.
    :param deployed: what `ModelHostDeployOperator` returned, or None.
    :param published: what `PublishOperator` returned, or None.
    """

    template_fields: Sequence[str] = ("plan", "deployed", "published")

    def __init__(self, *, plan: Any, deployed: Any, published: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.deployed = deployed
        self.published = published

    def run(self, context: Context) -> str:  # noqa: ARG002
        """Return what was done, in words."""
        done = self._restore()
        self.log.info("%s", done)
        return done

    def _restore(self) -> str:
        if self.published:
            return "The deployment is published: nothing to undo."
        plan, before = self.plan, (self.deployed or {}).get("live_before")
        if before == plan["deployment"]:
            return "The deployment served before this run: nothing to undo."
        hook = ModelHostHook(plan["conn_id"])
        live = (hook.find_endpoint(plan["endpoint"]) or {}).get("live")
        if before is None and live == plan["deployment"]:
            hook.delete_endpoint(plan["endpoint"])
            return f"Endpoint '{plan['endpoint']}' was new, and is removed again."
        if before is not None and live == plan["deployment"]:
            hook.set_live(plan["endpoint"], before)
        hook.delete_deployment(plan["endpoint"], plan["deployment"])
        return (
            f"Deployment {plan['deployment']} is removed; endpoint '{plan['endpoint']}' serves {before or 'nothing'}."
        )


class ModelHostUndeployOperator(SlipwayOperator):
    """Drain and remove an endpoint.

    :param plan: what `ResolveDeploymentOperator` returned.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(self, *, plan: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return which endpoint was removed. A half-removed endpoint is finished.

        :raises NotFound: if neither the host nor MLflow knows the endpoint.
        :raises UserError: if it serves another model.
        """
        plan = self.plan
        hook = ModelHostHook(plan["conn_id"])
        found = hook.find_endpoint(plan["endpoint"])
        if found is None and plan["record"] is None:
            raise NotFound(
                f"Model '{plan['model']}' is not deployed to endpoint '{plan['endpoint']}' on mlflow: "
                "there is nothing to undeploy; deploy_mlflow puts it there."
            )
        served = {d["model"] for d in (found or {}).get("deployments", [])}
        if served and plan["model"] not in served:
            raise UserError(
                f"Endpoint '{plan['endpoint']}' serves model '{min(served)}' and not '{plan['model']}': "
                "name the model that it serves."
            )
        hook.delete_endpoint(plan["endpoint"])
        return {"endpoint": plan["endpoint"]}
