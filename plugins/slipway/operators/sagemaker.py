"""Deploy to SageMaker, step by step: the steps that wait for nothing. Those that wait are in `sagemaker_endpoint`."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from airflow.sdk.definitions.context import Context
from airflow.sdk.exceptions import DownstreamTasksSkipped

from slipway import naming
from slipway.errors import UserError
from slipway.hooks.mlflow import MlflowHook
from slipway.hooks.sagemaker import SageMakerEndpointHook
from slipway.hooks.sagemaker_place import find_place
from slipway.hooks.sagemaker_scaling import SageMakerScalingHook
from slipway.model_download import download_model
from slipway.operators import sagemaker_planning as planning
from slipway.operators.base import PlanOperator
from slipway.operators.resolve import ResolveDeploymentOperator, ResolveVersionOperator
from slipway.operators.sagemaker_lock import data_hook
from slipway.operators.verify import manifest_of, verify_golden
from slipway.registry import Registry
from slipway.sagemaker import names
from slipway.sagemaker.options import Options
from slipway.sagemaker.requests import config_request, model_request

__all__ = [
    "SageMakerConfigOperator",
    "SageMakerModelDataOperator",
    "SageMakerModelOperator",
    "SageMakerPlanOperator",
    "SageMakerPruneOperator",
    "SageMakerResolveDeploymentOperator",
    "SageMakerResolveOperator",
    "SageMakerScalingOperator",
    "SageMakerVerifyOperator",
]


class SageMakerResolveOperator(ResolveVersionOperator):
    """Find the version that is to be deployed, and check all that was asked for, before anything is touched.

    Returns what `ResolveVersionOperator` returns, and `place`, `options`, `dry_run` and `rollback`; for a rollback the
    version is not known yet.

    :param place: the conf's `region`, `aws_id`, `arn` and `bucket`, which override the Variables `mlops.…`.
    :param options: the conf's options, as `slipway.sagemaker.options` has them.
    :param preview: a dry run: only say what would be done.
    :param rollback: deploy again what served before.
    """

    template_fields: Sequence[str] = (*ResolveVersionOperator.template_fields, "place", "preview", "rollback")

    def __init__(self, *, place: dict[str, Any], preview: Any = False, rollback: Any = False, **kwargs: Any) -> None:
        super().__init__(target="sagemaker", **kwargs)
        self.place = place
        self.preview = preview
        self.rollback = rollback

    def run(self, context: Context) -> dict[str, Any]:
        """Return the plan's first part.

        :raises UserError: if an option is wrong, region, account or role is not set, or the conf names another place
            than the one that the endpoint is deployed in.
        """
        naming.check_model(self.model)
        endpoint = naming.check_endpoint(self.endpoint) if self.endpoint else naming.default_endpoint(self.model)
        record = Registry(MlflowHook(self.mlflow_conn_id)).find_deployment(self.model, self.target, endpoint)
        place = find_place(self.conn_id, self.place, record.details if record else None)
        options = Options.parse(self.options)
        more = {
            "place": place.as_dict(),
            "options": options.model_dump(mode="json"),
            "dry_run": bool(self.preview),
            "rollback": bool(self.rollback),
        }
        if self.rollback:
            if self.version or self.alias:
                raise UserError("A rollback goes to what served before: give neither version nor alias with rollback.")
            if unwanted := options.beyond_rollback():
                raise UserError(
                    f"A rollback serves what served before as it was: leave {' and '.join(unwanted)} out of the conf, "
                    "or deploy the version that you want with it."
                )
            head = {"model": self.model, "endpoint": endpoint, "target": self.target, "conn_id": self.conn_id}
            return {**head, **more}
        self.options = {"role": place.role}
        return {**super().run(context), **more}


class SageMakerResolveDeploymentOperator(ResolveDeploymentOperator):
    """The head of an undeploy: what is to be undeployed, and where it is.

    :param place: the conf's `region`, `aws_id` and `bucket`.
    """

    template_fields: Sequence[str] = (*ResolveDeploymentOperator.template_fields, "place")

    def __init__(self, *, place: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(target="sagemaker", **kwargs)
        self.place = place

    def run(self, context: Context) -> dict[str, Any]:
        """Return what is to be undeployed.

        :raises UserError: if a name is not allowed, region or account is not set, or the conf names another place than
            the one that it is deployed in.
        """
        plan = super().run(context)
        place = find_place(self.conn_id, self.place, (plan["record"] or {}).get("details"), with_role=False)
        return {**plan, "place": place.as_dict(), "dry_run": False}


class SageMakerPlanOperator(PlanOperator):
    """Look at what is there, and say what is to be created, updated and removed.

    Returns the plan that all later steps take, and leaves in the XCom `image` the one that it names, if it does. A dry
    run ends here.

    :param plan: what `SageMakerResolveOperator` returned.
    :param lock: what `SageMakerLockOperator` returned: after a run that did not end as it should, more is looked at.
    """

    template_fields: Sequence[str] = ("plan", "lock")

    def __init__(self, *, lock: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lock = lock

    def run(self, context: Context) -> dict[str, Any]:
        """Return the plan.

        :raises UserError: if the endpoint is another model's, or cannot become what is asked for; or if the bucket is
            not there, or in another region.
        :raises DownstreamTasksSkipped: for a dry run; the plan is in the XCom `plan`.
        """
        plan = self.plan
        hook = SageMakerEndpointHook(plan["conn_id"], plan["place"]["region"])
        if not plan["place"]["recorded"]:
            data_hook(plan).check_bucket()
        found = hook.describe(plan["endpoint"])
        if plan["rollback"]:
            plan = planning.rollback_plan(hook, plan, found, clean=self.lock["clean"])
        else:
            manifest = manifest_of(plan, self.mlflow_conn_id)
            plan = planning.deploy_plan(hook, plan, found, manifest, clean=self.lock["clean"])
        mentioned = plan["options"]["autoscaling"] or plan["options"]["no_autoscaling"]
        if found and (mentioned or plan["retyped"] or plan["held"]):
            plan["scaling_before"] = self._scaling(plan)
        if plan["dry_run"] and plan["serving"] and plan["action"] != "none":
            plan["superfluous"] = planning.superfluous(hook, plan["endpoint"], plan["name"], plan["serving"])
        plan["changes"] = planning.changes(plan)
        for line in plan["changes"]:
            self.log.info("%s", line)
        if plan["dry_run"]:
            context["ti"].xcom_push("plan", plan)
            skipped = [task.task_id for task in self.get_flat_relatives(upstream=False) if not task.is_teardown]
            raise DownstreamTasksSkipped(tasks=skipped)
        # Airflow tells an XCom that is None from none at all only for return values.
        context["ti"].xcom_push("image", plan["image"] or "")
        return plan

    @staticmethod
    def _scaling(plan: dict[str, Any]) -> dict[str, Any] | None:
        """Return the endpoint's autoscaling, or the one that a broken run took away and did not give back."""
        scaling = SageMakerScalingHook(plan["conn_id"], plan["place"]["region"])
        found = scaling.find(plan["endpoint"])
        if found and plan["retyped"]:
            scaling.check_ours(plan["endpoint"])
        return found or (planning.held_scaling(plan["held"]) if plan["held"] else None)


class SageMakerModelDataOperator(PlanOperator):
    """Have the model's files in S3 as `model.tar.gz`.

    Returns `data`, its URI, `uploaded`, whether this task brought it there, and `model`, whether the SageMaker model is
    there already.

    :param plan: what `SageMakerPlanOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Adopt the data of a model that is there, or upload it.

        :raises UserError: if the bucket is not there or may not be written.
        """
        plan = self.plan
        place = plan["place"]
        model = SageMakerEndpointHook(plan["conn_id"], place["region"]).find_model(plan["name"])
        known = model["PrimaryContainer"]["ModelDataUrl"] if model else None
        data = data_hook(plan)
        if known and data.exists(known):
            return {"data": known, "uploaded": False, "model": True}
        version = Registry(MlflowHook(self.mlflow_conn_id)).resolve(plan["model"], plan["version"])
        with tempfile.TemporaryDirectory(prefix="slipway-sagemaker-") as folder:
            files = download_model(version, Path(folder), self.mlflow_conn_id)
            stored, uploaded = data.store(files, uri=known, kms=plan["options"]["kms"])
        return {"data": stored, "uploaded": uploaded, "model": model is not None}


class SageMakerModelOperator(PlanOperator):
    """Create the SageMaker model, or adopt the one that is there.

    :param plan: what `SageMakerPlanOperator` returned.
    :param image: what `EnsureImageOperator` returned.
    :param data: what `SageMakerModelDataOperator` returned.
    """

    template_fields: Sequence[str] = ("plan", "image", "data")

    def __init__(self, *, image: Any, data: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.image = image
        self.data = data

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the model's `name` and whether it was `created`.

        :raises UserError: if the role, the image or the data is not there.
        """
        plan = self.plan
        if self.data["model"]:
            self.log.info("Model '%s' is there already.", plan["name"])
            return {"name": plan["name"], "created": False}
        hook = SageMakerEndpointHook(plan["conn_id"], plan["place"]["region"])
        request = model_request(plan, image=self.image["image"], data=self.data["data"])
        return {"name": plan["name"], "created": hook.create_model(request)}


class SageMakerConfigOperator(PlanOperator):
    """Create the endpoint configuration, or adopt the one that is there.

    Returns its `name`, and `variant`: instance type and count, or memory and concurrency, as SageMaker names them.

    :param plan: what `SageMakerPlanOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Create or adopt.

        :raises UserError: if the instance type is unknown, or the like.
        """
        plan = self.plan
        hook = SageMakerEndpointHook(plan["conn_id"], plan["place"]["region"])
        found = hook.find_config(plan["name"]) if plan["action"] != "create" else None
        if found is None:
            found = config_request(plan)
            if not hook.create_config(found):
                found = hook.find_config(plan["name"]) or found
        (variant,) = found["ProductionVariants"]
        return {"name": plan["name"], "variant": variant}


class SageMakerVerifyOperator(PlanOperator):
    """Send the golden sample to the endpoint, and compare the answer.

    :param plan: what `SageMakerPlanOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return `verified`: whether there was a golden sample to compare with.

        :raises UserError: if the endpoint does not give the golden output; the DAG's last task then restores what
            served before.
        """
        plan = self.plan
        hook = SageMakerEndpointHook(plan["conn_id"], plan["place"]["region"])
        return {"verified": verify_golden(hook, plan["endpoint"], manifest_of(plan, self.mlflow_conn_id))}


class SageMakerScalingOperator(PlanOperator):
    """Set the endpoint's autoscaling, if the deploy mentions it; else it stays as it is, or becomes it again.

    :param plan: what `SageMakerPlanOperator` returned.
    """

    def run(self, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return `autoscaling`: what is to be, and whether it was `changed`."""
        plan = self.plan
        scaling = SageMakerScalingHook(plan["conn_id"], plan["place"]["region"])
        before, wanted = plan.get("scaling_before"), plan["options"]["autoscaling"]
        away = before and (plan["retyped"] or plan["held"])
        if away and not plan["options"]["no_autoscaling"]:
            wanted = wanted or before
        changed = bool((wanted and (away or wanted != before)) or (before and plan["options"]["no_autoscaling"]))
        if changed and wanted:
            scaling.set(plan["endpoint"], wanted)
            self.log.info("The endpoint scales between %(min)s and %(max)s instances.", wanted)
        elif changed:
            scaling.remove(plan["endpoint"])
            self.log.info("The endpoint does not scale any more.")
        if away:
            hook = SageMakerEndpointHook(plan["conn_id"], plan["place"]["region"])
            hook.untag(plan["arn"], names.AUTOSCALING_TAG)
        return {"autoscaling": wanted, "changed": changed}


class SageMakerPruneOperator(PlanOperator):
    """Let the endpoint's tags say what serves, and remove superseded configurations and models, but for the last two.

    It comes last: from here on the deploy stands, and nothing of this is ever to be undone.

    :param plan: what `SageMakerPlanOperator` returned.
    :param lock: what `SageMakerLockOperator` returned: after a run that did not end as it should, there may be
        something to remove although nothing changes.
    """

    template_fields: Sequence[str] = ("plan", "lock")

    def __init__(self, *, lock: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.lock = lock

    def run(self, context: Context) -> list[str]:  # noqa: ARG002
        """Return the names that were removed."""
        plan = self.plan
        hook = SageMakerEndpointHook(plan["conn_id"], plan["place"]["region"])
        if plan["retag"]:
            hook.tag(plan["arn"], {**plan["tags"], **names.owner_tags(plan)})
        if plan["action"] == "none" and self.lock["clean"]:
            return []
        removed = planning.superfluous(hook, plan["endpoint"], plan["name"])
        for name in removed:
            hook.delete_resource(name)
            self.log.info("Removed '%s', which was superseded.", name)
        return removed
