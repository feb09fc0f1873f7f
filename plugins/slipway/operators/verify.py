"""The golden sample, sent to a live endpoint or to a deployment that is to go live."""

from __future__ import annotations

from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import settings
from slipway.domain import ModelManifest
from slipway.errors import UserError
from slipway.golden import first_difference
from slipway.hooks.mlflow import MlflowHook
from slipway.operators.base import PlanOperator
from slipway.registry import Registry
from slipway.targets import EndpointHook, endpoint_hook

__all__ = ["VerifyOperator", "verify_golden"]


class VerifyOperator(PlanOperator):
    """Send the golden sample to a deployment before it serves, and compare the answer.

    :param plan: what `ResolveVersionOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return `verified`: whether there was a golden sample to compare with.

        :raises UserError: if the deployment does not give the golden output.
        """
        manifest = manifest_of(self.plan, self.mlflow_conn_id)
        hook = endpoint_hook(self.plan["target"], self.plan["conn_id"])
        verified = verify_golden(hook, self.plan["endpoint"], manifest, deployment=self.plan["deployment"])
        if verified:
            self.log.info("Deployment %s gives the golden sample's output.", self.plan["deployment"])
        else:
            self.log.info("The model has no golden sample: that its server is ready is all that was checked.")
        return {"verified": verified}


def manifest_of(plan: dict[str, Any], mlflow_conn_id: str) -> ModelManifest:
    """Return the manifest of a plan's model version."""
    registry = Registry(MlflowHook(mlflow_conn_id))
    return registry.manifest(registry.mlflow.get_version(plan["model"], plan["version"]))


def verify_golden(hook: EndpointHook, endpoint: str, manifest: ModelManifest, *, deployment: str | None = None) -> bool:
    """Compare an endpoint's answer with the golden output; return False if there is no golden sample.

    :param deployment: ask this deployment instead of the live one.
    :raises UserError: if the answer differs: labels must be equal, floats within the set tolerance.
    """
    if manifest.golden is None:
        return False
    answer = hook.invoke(endpoint, manifest.golden.input, deployment=deployment)
    difference = first_difference(manifest.golden.output, answer, settings.golden_tolerance())
    if difference:
        raise UserError(
            f"Endpoint '{endpoint}' does not give the golden sample's output ({difference}): the model does not "
            "predict here what it predicted when it was imported, so it is not put in service; check that it is "
            "deterministic."
        )
    return True
