"""What a deploy is to change, decided from what is there; and what it leaves over."""

from __future__ import annotations

from typing import Any

from slipway import naming, settings
from slipway.domain import ModelManifest
from slipway.errors import NotFound, UserError
from slipway.hooks.sagemaker import SageMakerEndpointHook
from slipway.images import identity
from slipway.operators.endpoints import check_owner
from slipway.sagemaker import names
from slipway.sagemaker.options import DataCapture, Options
from slipway.targets import Served

__all__ = ["changes", "check_endpoint", "deploy_plan", "rollback_plan", "superfluous"]

# Superseded deployments that are kept, for a rollback.
_KEPT = 2


def deploy_plan(
    hook: SageMakerEndpointHook, plan: dict[str, Any], found: dict[str, Any] | None, manifest: ModelManifest
) -> dict[str, Any]:
    """Return the whole plan of a deploy: its name covers all that it is, data capture that goes on among it.

    :param found: what SageMaker says of the endpoint.
    :raises UserError: if the endpoint is another model's, or was made by somebody else.
    """
    options = Options.model_validate(plan["options"])
    if options.data_capture is None and not options.serverless:
        options = options.model_copy(update={"data_capture": _capture_of(found)})
    spec = {**plan["spec"], "sagemaker": options.identity() | {"image": options.image or _image_of(plan, manifest)}}
    deployment = naming.deployment_id(plan["version"], spec)
    complete = {
        **plan,
        "spec": spec,
        "deployment": deployment,
        "name": names.resource_name(plan["endpoint"], deployment),
        "options": options.model_dump(mode="json"),
        "image": options.image,
    }
    return _with_action(hook, complete, found)


def rollback_plan(hook: SageMakerEndpointHook, plan: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    """Return the plan that lets an endpoint serve again what served before.

    :raises NotFound: if nothing is deployed, or nothing was before.
    """
    endpoint = plan["endpoint"]
    if found is None:
        raise NotFound(
            f"Endpoint '{endpoint}' does not exist on sagemaker, so there is nothing to roll back: deploy a version."
        )
    configs = _other_configs(hook, endpoint, found["EndpointConfigName"])
    superseded = _superseded(endpoint, configs)
    if not superseded:
        raise NotFound(
            f"Endpoint '{endpoint}' has served nothing but what it serves now: there is nothing to roll back to; "
            "deploy the version that you want."
        )
    name = superseded[0]
    tags = configs[name]
    model = hook.find_model(name)
    if model is None:
        raise NotFound(f"Model '{name}' was deleted from SageMaker: deploy the version that you want.")
    deployment = {"version": tags[names.VERSION_TAG], "deployment": tags[names.DEPLOYMENT_TAG], "name": name}
    complete = {**plan, **deployment, "spec": {}, "image": model["PrimaryContainer"]["Image"]}
    return _with_action(hook, complete, found)


def _with_action(hook: SageMakerEndpointHook, plan: dict[str, Any], found: dict[str, Any] | None) -> dict[str, Any]:
    """Add `action`, `serving`, `tags` and `instance_count`.

    `action` is `create`, `update`, `none`, or `wait` where the endpoint is changing or broken, and what is to be done
    with it shows later.
    """
    tags = dict(plan["options"]["tags"])
    count = plan["options"]["instance_count"]
    action, serving = "create", None
    if found:
        serving = found["EndpointConfigName"]
        action = "update" if found["EndpointStatus"] == "InService" else "wait"
        if action == "update" and serving == plan["name"]:
            action = "none"
        else:
            there = hook.tags(found["EndpointArn"])
            check_endpoint(plan, there)
            tags = {key: value for key, value in there.items() if not key.startswith(("slipway:", "aws:"))} | tags
        (variant,) = found.get("ProductionVariants") or [{}]
        count = count or variant.get("DesiredInstanceCount")
        if plan["options"]["mode"]["type"] == "serverless" and variant.get("DesiredInstanceCount"):
            raise UserError(
                f"Endpoint '{plan['endpoint']}' runs on instances, and SageMaker cannot make it serverless: run "
                "undeploy_sagemaker first, or choose another endpoint."
            )
    return {**plan, "action": action, "serving": serving, "tags": tags, "instance_count": count or 1}


def check_endpoint(plan: dict[str, Any], tags: dict[str, str]) -> None:
    """Check that an endpoint with these tags is Slipway's, and the plan's model's.

    :raises UserError: otherwise.
    """
    if not names.belongs_to(plan["endpoint"], tags):
        raise UserError(
            f"Endpoint '{plan['endpoint']}' was not made by Slipway (it has no tag slipway:endpoint): choose another "
            "endpoint."
        )
    check_owner(Served(plan["endpoint"], model=tags.get(names.MODEL_TAG)), plan)


def _capture_of(found: dict[str, Any] | None) -> DataCapture | None:
    """Return the data capture that an endpoint has, as an option."""
    capture = (found or {}).get("DataCaptureConfig") or {}
    if not capture.get("EnableCapture"):
        return None
    return DataCapture(percentage=capture["CurrentSamplingPercentage"], s3_uri=capture["DestinationS3Uri"])


def _image_of(plan: dict[str, Any], manifest: ModelManifest) -> str:
    """Return the tag of the image that `EnsureImageOperator` will find or make."""
    return identity.image_tag(
        plan["spec"]["lock_digest"],
        base_image=settings.base_image(manifest.python or ""),
        platform=identity.native_platform(),
    )


def changes(plan: dict[str, Any]) -> list[str]:
    """Return what a plan does, a sentence each."""
    endpoint, name = plan["endpoint"], plan["name"]
    if plan["action"] == "none":
        return [f"Endpoint '{endpoint}' serves {plan['deployment']} already: nothing changes."]
    options = Options.model_validate(plan["options"])
    runs_on = (
        f"serverless, {options.mode.memory} MB, at most {options.mode.max_concurrency} at a time"
        if options.serverless
        else f"{plan['instance_count']} × {options.instance_type}"
    )
    lines = [f"Create, unless they are there: model and endpoint configuration '{name}' ({runs_on})."]
    if plan["serving"] is None:
        lines.append(f"Create endpoint '{endpoint}' in region {plan['place']['region']}.")
    else:
        how = options.strategy
        steps = "" if how.type == "all_at_once" else f" of {how.percent} percent every {how.wait} s"
        lines.append(
            f"Update endpoint '{endpoint}' from '{plan['serving']}' to '{name}': {how.type}{steps}"
            f"{f', watching {how.alarms}' if how.alarms else ''}."
        )
        lines.append(f"Remove: what was superseded before the last {_KEPT}.")
    if plan["options"]["autoscaling"]:
        lines.append("Set the autoscaling to {min} to {max} instances.".format(**plan["options"]["autoscaling"]))
    return lines


def superfluous(hook: SageMakerEndpointHook, endpoint: str, live: str) -> list[str]:
    """Return the names of what is to go of an endpoint's configurations and models: all but the live and the kept."""
    configs = _other_configs(hook, endpoint, live)
    kept = {live, *_superseded(endpoint, configs)[:_KEPT]}
    others = {name: hook.tags(arn) for name, arn in hook.listed("model", endpoint) if name not in {*configs, live}}
    return [
        name for name, tags in {**configs, **others}.items() if name not in kept and names.belongs_to(endpoint, tags)
    ]


def _other_configs(hook: SageMakerEndpointHook, endpoint: str, live: str) -> dict[str, dict[str, str]]:
    """Return an endpoint's configurations that do not serve, with their tags."""
    return {name: hook.tags(arn) for name, arn in hook.listed("config", endpoint) if name != live}


def _superseded(endpoint: str, configs: dict[str, dict[str, str]]) -> list[str]:
    """Return which of the configurations (name and tags) served before, the latest first."""
    served = [n for n, tags in configs.items() if names.belongs_to(endpoint, tags) and names.SUPERSEDED_TAG in tags]
    return sorted(served, key=lambda name: configs[name][names.SUPERSEDED_TAG], reverse=True)
