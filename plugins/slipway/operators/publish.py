"""The tail of every deploy and undeploy: the record in MLflow, sample code, and the link on the task."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway.assets import ENDPOINT
from slipway.domain import DeploymentRecord
from slipway.hooks.mlflow import MlflowHook
from slipway.links import EndpointLink
from slipway.operators.base import SlipwayOperator
from slipway.operators.verify import manifest_of
from slipway.registry import Registry
from slipway.samples import render

__all__ = ["ForgetOperator", "PublishOperator"]


class PublishOperator(SlipwayOperator):
    """Record what an endpoint serves, in MLflow's tags and as the task's XCom, with sample code.

    Returns the `DeploymentRecord` as JSON. A deployment that is recorded already keeps its record.

    :param plan: what `ResolveVersionOperator` returned.
    :param deployed: what the target's deploy operator returned: `url`, and `environment` or `image`,
        `auth` and `token_url` where they apply.
    """

    template_fields: Sequence[str] = ("plan", "deployed")
    operator_extra_links = (EndpointLink(),)

    def __init__(self, *, plan: Any, deployed: Any, mlflow_conn_id: str = "mlflow_default", **kwargs: Any) -> None:
        super().__init__(outlets=[ENDPOINT], **kwargs)
        self.plan = plan
        self.deployed = deployed
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:
        """Publish the endpoint and return its record.

        :raises NotFound: if the version has been deleted from MLflow meanwhile.
        """
        plan, deployed = self.plan, self.deployed
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
            deployed_at=datetime.now(UTC).replace(microsecond=0),
            run=f"{context['dag'].dag_id}/{context['run_id']}",
        )
        known = registry.find_deployment(record.model, record.target, record.endpoint)
        unchanged = ("deployed_at", "run", "samples")
        if known and known.model_dump(exclude=set(unchanged)) == record.model_dump(exclude=set(unchanged)):
            self.log.info("Endpoint '%s' serves this deployment since %s.", record.endpoint, known.deployed_at)
            record = known
        else:
            registry.record(record)
        samples = render(
            manifest_of(plan, self.mlflow_conn_id),
            url=record.url,
            token_url=deployed.get("token_url"),
            target=record.target,
        )
        record = record.model_copy(update={"samples": samples})
        EndpointLink.persist(context, f"{record.url}/docs")
        context["outlet_events"][ENDPOINT].extra = record.model_dump(mode="json", exclude={"samples"})
        self.log.info("Endpoint '%s' is live at %s", record.endpoint, record.url)
        self.log.info("Score with curl:\n%s", samples.curl)
        self.log.info("Score with Python:\n%s", samples.python)
        return record.model_dump(mode="json")


class ForgetOperator(SlipwayOperator):
    """Remove the record of an endpoint that has been undeployed.

    :param plan: what `ResolveDeploymentOperator` returned.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(self, *, plan: Any, mlflow_conn_id: str = "mlflow_default", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan
        self.mlflow_conn_id = mlflow_conn_id

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return which endpoint of which model is gone."""
        plan = self.plan
        Registry(MlflowHook(self.mlflow_conn_id)).forget(plan["model"], plan["target"], plan["endpoint"])
        self.log.info("Endpoint '%s' on %s is undeployed.", plan["endpoint"], plan["target"])
        return {"model": plan["model"], "endpoint": plan["endpoint"], "target": plan["target"]}
