"""Deploy to SageMaker: the steps that wait, in the triggerer, where no worker slot is held."""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk.definitions.context import Context
from airflow.sdk.exceptions import TaskDeferred

from slipway import settings
from slipway.domain import DeploymentRecord
from slipway.errors import SlipwayError, Unavailable, UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.hooks.sagemaker import CHANGING, SageMakerEndpointHook
from slipway.hooks.sagemaker_scaling import SageMakerScalingHook
from slipway.operators.base import PlanOperator, one_sentence, run_of
from slipway.operators.ending import AfterAllOperator
from slipway.operators.endpoints import check_undeployable
from slipway.operators.sagemaker_lock import data_hook
from slipway.operators.sagemaker_planning import check_endpoint, held_text, never_served
from slipway.registry import Registry
from slipway.sagemaker import names
from slipway.sagemaker.options import Options
from slipway.sagemaker.requests import back_request, endpoint_request, update_request
from slipway.triggers.sagemaker import SageMakerEndpointTrigger

__all__ = ["SageMakerEndpointOperator", "SageMakerRestoreOperator", "SageMakerUndeployOperator"]

# For the case that no triggerer runs: somewhat later than the trigger's own end.
_SPARE_SECONDS = 300


class _EndpointStep(PlanOperator):
    """A step that orders something of an endpoint, waits until it has settled, and looks again."""

    # What it means that the endpoint has not settled in time: a step that undoes goes on waiting, in another try.
    late: type[SlipwayError] = Unavailable

    def run(self, context: Context) -> Any:  # noqa: ARG002
        """Begin; see `step`."""
        return self.step(ordered=False)

    @abstractmethod
    def step(self, *, ordered: bool) -> Any:
        """Look at the endpoint and do what is next: order something and `wait`, or return.

        :param ordered: whether this try has ordered already what it is for.
        """

    def wait(self, *, ordered: bool) -> TaskDeferred:
        """Return what is to be raised to wait in the triggerer until the endpoint has settled; `step` follows."""
        place, patience = self.plan["place"], self.patience
        return TaskDeferred(
            trigger=SageMakerEndpointTrigger(
                place["conn_id"], place["region"], time.time() + patience, self.plan["endpoint"]
            ),
            method_name="execute_complete",
            kwargs={"ordered": ordered},
            timeout=timedelta(seconds=patience + _SPARE_SECONDS),
        )

    def execute_complete(self, context: Context, event: dict[str, Any], ordered: bool) -> Any:
        """Go on after the wait.

        :raises SlipwayError: if it took too long, or what was ordered failed.
        """
        with one_sentence(context):
            if event.get("late"):
                raise self.late(
                    f"Endpoint '{self.plan['endpoint']}' still changes after {self.patience} s: see its "
                    "page in SageMaker's console, or raise [slipway] ready_timeout_seconds."
                )
            return self.step(ordered=ordered)

    @property
    def patience(self) -> int:
        """Seconds that the endpoint has to settle: what its instances need, and the waits of the plan's roll-out."""
        options = self.plan.get("options")
        waits = Options.model_validate(options).strategy.waits if options else 0
        return settings.ready_timeout_seconds() + waits

    def hold_scaling(self, found: dict[str, Any]) -> None:
        """Take the endpoint's autoscaling away if its instance type changes: AWS refuses the change otherwise.

        What it was is in the plan, for this run, and in a tag of the endpoint, for the next one if this one is killed.
        """
        if not self.plan["retyped"]:
            return
        if before := self.plan.get("scaling_before"):
            self.hook.tag(found["EndpointArn"], {names.AUTOSCALING_TAG: held_text(before)})
        self.scaling.remove(self.plan["endpoint"])

    @property
    def hook(self) -> SageMakerEndpointHook:
        """The endpoint's region."""
        return SageMakerEndpointHook(self.plan["conn_id"], self.plan["place"]["region"])

    @property
    def scaling(self) -> SageMakerScalingHook:
        """The autoscaling of that region."""
        return SageMakerScalingHook(self.plan["conn_id"], self.plan["place"]["region"])


class SageMakerEndpointOperator(_EndpointStep):
    """Create the endpoint, or update it in place, and wait until the new configuration serves.

    Returns `url`, `image`, `console_url`, `details` and `sample_values`, for `PublishOperator`.

    :param plan: what `SageMakerPlanOperator` returned.
    :param image: what `EnsureImageOperator` returned.
    :param config: what `SageMakerConfigOperator` returned.
    """

    template_fields: Sequence[str] = ("plan", "image", "config")
    late = UserError

    def __init__(self, *, image: Any, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.config = config

    def run(self, context: Context) -> Any:
        """Begin; see `step`. Where nothing changes the plan has just looked, unless this is a later try."""
        if self.plan["action"] == "none" and context["ti"].try_number == 1:
            return self._deployed(self.hook, self.plan["instance_count"])
        return super().run(context)

    def step(self, *, ordered: bool) -> dict[str, Any]:
        """Order it once, and compare the configuration that serves when the endpoint has settled.

        SageMaker rolls a failed update back to `InService` on the old configuration, so that the status alone says
        nothing.

        :raises UserError: if the endpoint does not come to serve the new configuration.
        """
        plan, hook = self.plan, self.hook
        found = hook.describe(plan["endpoint"])
        if plan["action"] == "none" and (found or {}).get("EndpointConfigName") != plan["name"]:
            raise UserError(
                f"Endpoint '{plan['endpoint']}' does not serve '{plan['name']}' any more, as it did when this run "
                "began: run deploy_sagemaker anew."
            )
        if found is None:
            if ordered:
                raise Unavailable(f"Endpoint '{plan['endpoint']}' was deleted while it was created.")
            hook.create_endpoint(endpoint_request(plan))
            raise self.wait(ordered=True)
        if found["EndpointStatus"] in CHANGING:
            raise self.wait(ordered=ordered)
        if found["EndpointStatus"] == "InService" and found["EndpointConfigName"] == plan["name"]:
            (variant,) = found.get("ProductionVariants") or [{}]
            return self._deployed(hook, variant.get("DesiredInstanceCount"))
        if ordered:
            raise self._failure(hook, found)
        if never_served(found):
            self.log.info("Endpoint '%s' failed when it was created: it is made anew.", plan["endpoint"])
            hook.delete_endpoint(plan["endpoint"])
            raise self.wait(ordered=False)
        self._supersede(hook, found)
        self.hold_scaling(found)
        hook.update_endpoint(update_request(plan, patience=settings.ready_timeout_seconds()))
        raise self.wait(ordered=True)

    def _supersede(self, hook: SageMakerEndpointHook, found: dict[str, Any]) -> None:
        """Note on the configuration that serves until when it did: what a rollback goes back to."""
        serving = found["EndpointConfigName"]
        if names.deployment_of(self.plan["endpoint"], serving):
            root, _, _ = found["EndpointArn"].rpartition(":endpoint/")
            now = datetime.now(UTC).isoformat(timespec="microseconds")
            hook.tag(f"{root}:endpoint-config/{serving.lower()}", {names.SUPERSEDED_TAG: now})

    def _failure(self, hook: SageMakerEndpointHook, found: dict[str, Any]) -> UserError:
        endpoint = self.plan["endpoint"]
        lines = hook.last_log_lines(endpoint, self.plan["name"])
        for line in lines:
            self.log.error("container: %s", line)
        reason = found.get("FailureReason") or "SageMaker gives no reason"
        last = f"; the container's last words: {' '.join(lines[-1].split())[:300]}" if lines else ""
        serves = found["EndpointConfigName"]
        if serves == self.plan["name"]:
            return UserError(f"Endpoint '{endpoint}' could not be created ({reason}{last}): correct the model or conf.")
        return UserError(
            f"Endpoint '{endpoint}' was not updated: SageMaker rolled back to '{serves}', which serves on "
            f"({reason}{last}); correct the model or conf."
        )

    def _deployed(self, hook: SageMakerEndpointHook, count: int | None) -> dict[str, Any]:
        """Return what is to be published.

        :param count: how many instances there are, which may be more or fewer than the configuration begins with.
        """
        plan, region = self.plan, self.plan["place"]["region"]
        place = {name: plan["place"][name] for name in ("region", "account", "bucket")}
        details = {**place, **_runs_on(self.config["variant"], count)}
        self.log.info("Endpoint '%s' runs on %s", plan["endpoint"], ", ".join(f"{k} {v}" for k, v in details.items()))
        return {
            "url": hook.url(plan["endpoint"]),
            "image": self.image["image"],
            "auth": "aws-sigv4",
            "console_url": f"https://{region}.console.aws.amazon.com/sagemaker/home?region={region}#/endpoints/"
            f"{plan['endpoint']}",
            "details": details,
            "sample_values": {"endpoint": plan["endpoint"], "region": region, "endpoint_url": hook.own_url()},
        }


def _runs_on(variant: dict[str, Any], count: int | None) -> dict[str, Any]:
    """Return what an endpoint runs on, and costs by, for records and pages."""
    serverless = variant.get("ServerlessConfig")
    if serverless:
        return {
            "mode": "serverless",
            "memory_mb": serverless["MemorySizeInMB"],
            "max_concurrency": serverless["MaxConcurrency"],
        }
    return {
        "mode": "realtime",
        "instance_type": variant["InstanceType"],
        "instance_count": variant["InitialInstanceCount"] if count is None else count,
    }


class SageMakerRestoreOperator(AfterAllOperator, _EndpointStep):
    """Undo a deploy that was not published: what served before serves on, and nothing new stays.

    What MLflow records decides, not what earlier tasks of this run returned. It works under the run's lock: one that
    is cleared after another run has taken it leaves that run's work alone.

    :param plan: what `SageMakerPlanOperator` returned; None if it did not come to that.
    :param data: what `SageMakerModelDataOperator` returned; None likewise.
    """

    template_fields: Sequence[str] = ("plan", "data")

    def __init__(self, *, data: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.data = data

    def run(self, context: Context) -> str:
        """Begin, if there is something to undo."""
        plan = self.plan
        if plan is None or plan["dry_run"]:
            return "Nothing was begun: nothing to undo."
        record = self._record()
        if record and record.deployment == plan["deployment"]:
            return "The deployment is published: nothing to undo."
        held = data_hook(plan).acquire(run_of(context))
        if held and held.owner != run_of(context):
            return f"Run {held.owner} changes the endpoint by now: nothing is undone."
        return str(super().run(context))

    def _record(self) -> DeploymentRecord | None:
        """Return the endpoint's record; one of its namesake in another region or account says nothing of it."""
        plan = self.plan
        found = Registry(MlflowHook(self.mlflow_conn_id)).find_deployment(
            plan["model"], plan["target"], plan["endpoint"]
        )
        own = {name: plan["place"][name] for name in ("region", "account")}
        return found if found and own == {name: found.details.get(name, here) for name, here in own.items()} else None

    def step(self, *, ordered: bool) -> str:
        """Return what was done, in words.

        :raises Unavailable: if the endpoint cannot be brought back now.
        """
        plan, hook = self.plan, self.hook
        endpoint, ours = plan["endpoint"], plan["name"]
        found = hook.describe(endpoint)
        if found and found["EndpointStatus"] in CHANGING:
            raise self.wait(ordered=ordered)
        if found and found["EndpointConfigName"] == ours:
            record = self._record()
            recorded = names.resource_name(endpoint, record.deployment) if record else None
            # SageMaker does not update an endpoint that failed when it was created: that one can only go.
            usable = () if never_served(found) else (recorded, plan["serving"])
            before = next((n for n in usable if n not in {None, ours} and hook.find_config(n)), None)
            if before and ordered:
                raise Unavailable(f"Endpoint '{endpoint}' could not be brought back to '{before}': it is tried again.")
            if before:
                self.hold_scaling(found)
                kept = not plan["options"]["instance_count"]
                hook.update_endpoint(back_request(endpoint, before, retain_count=kept))
            elif plan["action"] == "none":
                return f"Endpoint '{endpoint}' served this before the run began, and is left as it is."
            else:
                self.scaling.remove(endpoint)
                hook.delete_endpoint(endpoint)
            raise self.wait(ordered=True)
        if found and "scaling_before" in plan:
            self._restore_scaling(endpoint)
            if plan["retyped"] or plan["held"]:
                hook.untag(found["EndpointArn"], names.AUTOSCALING_TAG)
        self._remove(hook, endpoint, ours)
        self._remove_data(hook, endpoint)
        serves = found["EndpointConfigName"] if found else "nothing"
        done = f"What was new is removed; endpoint '{endpoint}' serves {serves}."
        self.log.info("%s", done)
        return done

    def _restore_scaling(self, endpoint: str) -> None:
        before = self.plan.get("scaling_before")
        if self.scaling.find(endpoint) != before:
            if before:
                self.scaling.set(endpoint, before)
            else:
                self.scaling.remove(endpoint)

    def _remove(self, hook: SageMakerEndpointHook, endpoint: str, ours: str) -> None:
        """Remove this deploy's configuration and model, unless they served before and are kept for a rollback."""
        arn = dict(hook.listed("config", endpoint)).get(ours)
        if arn is None or names.SUPERSEDED_TAG not in hook.tags(arn):
            hook.delete_resource(ours)

    def _remove_data(self, hook: SageMakerEndpointHook, endpoint: str) -> None:
        """Remove the model data that this run brought to S3, unless a model is made of it; half uploads in any case."""
        data = data_hook(self.plan)
        data.abort_uploads()
        if self.data and self.data["uploaded"]:
            models = (hook.find_model(name) or {} for name, _ in hook.listed("model", endpoint))
            if self.data["data"] not in {model.get("PrimaryContainer", {}).get("ModelDataUrl") for model in models}:
                data.delete(self.data["data"])


class SageMakerUndeployOperator(_EndpointStep):
    """Remove an endpoint and all that was made for it; what a broken try left is finished.

    Returns `endpoint`, and what was `removed`.

    :param plan: what `SageMakerResolveDeploymentOperator` returned.
    :param delete_data: whether the model data in S3 goes too.
    """

    template_fields: Sequence[str] = ("plan", "delete_data")

    def __init__(self, *, delete_data: Any = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.delete_data = delete_data

    def step(self, *, ordered: bool) -> dict[str, Any]:
        """Remove the endpoint, then what it was made of.

        :raises NotFound: if neither SageMaker nor MLflow knows the endpoint.
        :raises UserError: if it is another model's, or was not made by Slipway.
        """
        plan, hook = self.plan, self.hook
        endpoint = plan["endpoint"]
        found = hook.describe(endpoint)
        if found:
            check_endpoint(plan, hook.tags(found["EndpointArn"]))
            if found["EndpointStatus"] not in CHANGING:
                self.scaling.remove(endpoint)
                hook.delete_endpoint(endpoint)
            raise self.wait(ordered=True)
        if not ordered:
            check_undeployable(hook.served(endpoint), plan)
            self.scaling.remove(endpoint)
        there: dict[str, str] = {}
        for kind in ("model", "config"):
            there |= dict(hook.listed(kind, endpoint))
        removed = [name for name, arn in there.items() if names.belongs_to(endpoint, hook.tags(arn))]
        for name in removed:
            hook.delete_resource(name)
        if self.delete_data:
            self.log.info("Removed %d objects of model data.", data_hook(plan).delete_data())
        return {"endpoint": endpoint, "removed": removed}
