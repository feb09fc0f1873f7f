"""The tail of every deploy and undeploy: the record in MLflow, sample code, and the link on the task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway.assets import ENDPOINT
from slipway.domain import DeploymentRecord
from slipway.errors import UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.links import EndpointLink
from slipway.operators.base import PlanOperator, run_of
from slipway.operators.verify import manifest_of
from slipway.registry import Registry
from slipway.samples import render

__all__ = ["ForgetOperator", "PublishOperator"]


class PublishOperator(PlanOperator):
    """Record what an endpoint serves, in MLflow's tags and as the task's XCom, with sample code.

    Returns the `DeploymentRecord` as JSON. A deployment that is recorded already keeps its record.

    :param plan: what `ResolveVersionOperator` returned.
    :param deployed: what the target's deploy operator returned: `url`, and `environment` or `image`,
        `deployment`, `auth`, `token_url`, `console_url`, `details` and `sample_values` where they apply.
    """

    template_fields: Sequence[str] = ("plan", "deployed")
    operator_extra_links = (EndpointLink(),)

    def __init__(self, *, deployed: Any, **kwargs: Any) -> None:
        super().__init__(outlets=[ENDPOINT], **kwargs)
        self.deployed = deployed

    def run(self, context: Context) -> dict[str, Any]:
        """Publish the endpoint and return its record.

        :raises NotFound: if the version has been deleted from MLflow meanwhile.
        :raises UserError: if the plan is not what was deployed.
        """
        plan, deployed = self.plan, self.deployed
        if deployed.get("deployment", plan["deployment"]) != plan["deployment"]:
            # A task that is cleared has the teardowns' setup run again, which may find a newer version.
            raise UserError(
                f"This run deployed {deployed['deployment']}, and now means version {plan['version']} "
                f"({plan['deployment']}): run {context['dag'].dag_id} anew, with the version that you want."
            )
        registry = Registry(MlflowHook(self.mlflow_conn_id))
        record = DeploymentRecord(
            endpoint=plan["endpoint"],
            target=plan["target"],
            url=deployed["url"],
            model=plan["model"],
            version=plan["version"],
            deployment=plan["deployment"],
            auth=deployed.get("auth", "none"),
            environment=deployed.get("environment"),
            image=deployed.get("image"),
            console_url=deployed.get("console_url"),
            details=deployed.get("details", {}),
            deployed_at=datetime.now(UTC).replace(microsecond=0),
            run=run_of(context),
        )
        samples = render(
            manifest_of(plan, self.mlflow_conn_id),
            url=record.url,
            token_url=deployed.get("token_url"),
            target=record.target,
            values=deployed.get("sample_values"),
        )
        known = registry.find_deployment(record.model, record.target, record.endpoint)
        if known and _what(known) == _what(record):
            self.log.info("Endpoint '%s' serves this deployment since %s.", record.endpoint, known.deployed_at)
            record = known
        # Last of all that may fail: from here on the deployment counts as published. Also where it is recorded
        # already, because a killed task may have left an older record beside it.
        registry.record(record)
        record = record.model_copy(update={"samples": samples})
        EndpointLink.persist(context, record.console_url or f"{record.url}/docs")
        context["outlet_events"][ENDPOINT].extra = record.model_dump(mode="json", exclude={"samples"})
        self.log.info("Endpoint '%s' is live at %s", record.endpoint, record.url)
        if samples:
            self.log.info("Score with curl:\n%s", samples.curl)
            self.log.info("Score with Python:\n%s", samples.python)
        else:
            self.log.info("There is no sample code, because nothing is known of the model's input.")
        return record.model_dump(mode="json")


def _what(record: DeploymentRecord) -> dict[str, Any]:
    """Return what a record says is deployed, without when and by which run."""
    return record.model_dump(exclude={"deployed_at", "run", "samples"})


class ForgetOperator(PlanOperator):
    """Remove the record of an endpoint that has been undeployed.

    :param plan: what `ResolveDeploymentOperator` returned.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(outlets=[ENDPOINT], **kwargs)

    def run(self, context: Context) -> dict[str, Any]:
        """Return which endpoint of which model is gone."""
        plan = self.plan
        Registry(MlflowHook(self.mlflow_conn_id)).forget(plan["model"], plan["target"], plan["endpoint"])
        self.log.info("Endpoint '%s' on %s is undeployed.", plan["endpoint"], plan["target"])
        gone = {"model": plan["model"], "endpoint": plan["endpoint"], "target": plan["target"]}
        context["outlet_events"][ENDPOINT].extra = {**gone, "undeployed": True}
        return gone
