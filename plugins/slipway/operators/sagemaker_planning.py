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
from slipway.sagemaker.options import DataCapture, Mode, Options
from slipway.targets import Served

__all__ = [
    "changes",
    "check_endpoint",
    "deploy_plan",
    "held_scaling",
    "held_text",
    "never_served",
    "rollback_plan",
    "superfluous",
]

# Superseded deployments that are kept, for a rollback.
_KEPT = 2


def deploy_plan(
    hook: SageMakerEndpointHook,
    plan: dict[str, Any],
    found: dict[str, Any] | None,
    manifest: ModelManifest,
    *,
    clean: bool,
) -> dict[str, Any]:
    """Return the whole plan of a deploy: its name covers all that it is, data capture that goes on among it.

    :param found: what SageMaker says of the endpoint.
    :param clean: whether nothing can be left of a run that did not end as it should.
    :raises UserError: if the endpoint is another model's, or was made by somebody else.
    """
    options = _with_capture(Options.model_validate(plan["options"]), found)
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
    return _with_action(hook, complete, found, clean=clean)


def rollback_plan(
    hook: SageMakerEndpointHook, plan: dict[str, Any], found: dict[str, Any] | None, *, clean: bool
) -> dict[str, Any]:
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
    config = hook.find_config(name)
    if config is None:
        raise NotFound(f"Configuration '{name}' was deleted from SageMaker: deploy the version that you want.")
    deployment = {"version": tags[names.VERSION_TAG], "deployment": tags[names.DEPLOYMENT_TAG], "name": name}
    options = plan["options"] | _options_of(config)
    complete = {
        **plan, **deployment, "options": options, "spec": {}, "image": model["PrimaryContainer"]["Image"]
    }  # fmt: skip
    return _with_action(hook, complete, found, clean=clean)


def _with_action(
    hook: SageMakerEndpointHook, plan: dict[str, Any], found: dict[str, Any] | None, *, clean: bool
) -> dict[str, Any]:
    """Add `action`, `serving`, `arn`, `tags`, `retag`, `held`, `instance_count` and `retyped`.

    `action` is `create`, `update`, `none`, or `wait` where the endpoint is changing or broken, and what is to be done
    with it shows later. `retag` is what the endpoint's tags are to become when the deploy stands, if that is something
    else; `held` is the autoscaling that a run which did not end as it should took away; `retyped` says that the
    endpoint's instances may be of another type afterwards.

    :param clean: False if a run did not end as it should: then something may be left of it, also where nothing changes.
    """
    tags = dict(plan["options"]["tags"])
    count = plan["options"]["instance_count"]
    action, serving, arn, retag, held, retyped = "create", None, None, False, None, False
    if found:
        serving, arn = found["EndpointConfigName"], found["EndpointArn"]
        action = "update" if found["EndpointStatus"] == "InService" else "wait"
        if never_served(found):
            serving = None
        if action == "update" and serving == plan["name"]:
            action = "none"
        if action != "none" or tags or not clean:
            there = hook.tags(arn)
            check_endpoint(plan, there)
            tags = {key: value for key, value in there.items() if not key.startswith(("slipway:", "aws:"))} | tags
            retag = {**there, **tags, **names.owner_tags(plan)} != there
            held = there.get(names.AUTOSCALING_TAG)
        if action == "update":
            before = hook.find_config(found["EndpointConfigName"])
            retyped = before is not None and _instance_type(before) != plan["options"]["instance_type"]
        elif action == "wait":
            retyped = True
        (variant,) = found.get("ProductionVariants") or [{}]
        running = variant.get("DesiredInstanceCount")
        count = (running or count) if action == "none" else (count or running)
        if plan["options"]["mode"]["type"] == "serverless" and variant.get("DesiredInstanceCount"):
            raise UserError(
                f"Endpoint '{plan['endpoint']}' runs on instances, and SageMaker cannot make it serverless: run "
                "undeploy_sagemaker first, or choose another endpoint."
            )
    return {
        **plan,
        "action": action,
        "serving": serving,
        "arn": arn,
        "tags": tags,
        "retag": retag,
        "held": held,
        "retyped": retyped and plan["options"]["mode"]["type"] != "serverless",
        "instance_count": count or 1,
    }


def never_served(found: dict[str, Any]) -> bool:
    """Whether an endpoint failed when it was created."""
    return found["EndpointStatus"] == "Failed" and not found.get("ProductionVariants")


def held_text(scaling: dict[str, Any]) -> str:
    """Return autoscaling as a tag's value."""
    return " ".join(str(scaling[name]) for name in ("min", "max", "target"))


def held_scaling(text: str) -> dict[str, Any]:
    """Return the autoscaling that a tag's value says."""
    least, most, target = text.split()
    return {"min": int(least), "max": int(most), "target": None if target == "None" else float(target)}


def _instance_type(config: dict[str, Any]) -> str | None:
    """Return what a configuration's instances are; None if it has none."""
    (variant,) = config["ProductionVariants"]
    found: str | None = variant.get("InstanceType")
    return found


def _options_of(config: dict[str, Any]) -> dict[str, Any]:
    """Return a stored configuration's mode and instance type, as options."""
    (variant,) = config["ProductionVariants"]
    if serverless := variant.get("ServerlessConfig"):
        memory, concurrency = serverless["MemorySizeInMB"], serverless["MaxConcurrency"]
        return {"mode": {"type": "serverless", "memory": memory, "max_concurrency": concurrency}}
    return {"mode": Mode.model_validate({}).model_dump(), "instance_type": variant["InstanceType"]}


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


def _with_capture(options: Options, found: dict[str, Any] | None) -> Options:
    """Let data capture that is not mentioned go on, and say what encrypts what it keeps."""
    capture = options.data_capture or (None if options.serverless else _capture_of(found))
    if capture and not capture.kms and options.kms:
        capture = capture.model_copy(update={"kms": options.kms})
    return options.model_copy(update={"data_capture": capture})


def _capture_of(found: dict[str, Any] | None) -> DataCapture | None:
    """Return the data capture that an endpoint has, as an option."""
    capture = (found or {}).get("DataCaptureConfig") or {}
    if not capture.get("EnableCapture"):
        return None
    return DataCapture(
        percentage=capture["CurrentSamplingPercentage"],
        s3_uri=capture["DestinationS3Uri"],
        kms=capture.get("KmsKeyId") or None,
    )


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
        but = " but its tags" if plan["retag"] else ""
        return [f"Endpoint '{endpoint}' serves {plan['deployment']} already: nothing changes{but}."]
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
        going = plan.get("superfluous")
        what = f"what was superseded before the last {_KEPT}" if going is None else ", ".join(going) or "nothing"
        lines.append(f"Remove: {what}.")
    if plan["options"]["autoscaling"]:
        lines.append("Set the autoscaling to {min} to {max} instances.".format(**plan["options"]["autoscaling"]))
    elif plan["options"]["no_autoscaling"]:
        lines.append("Switch the autoscaling off.")
    return lines


def superfluous(hook: SageMakerEndpointHook, endpoint: str, live: str, serving: str | None = None) -> list[str]:
    """Return the names of what is to go of an endpoint's configurations and models: all but the live and the kept.

    :param serving: what serves now, and will have been superseded when `live` serves.
    """
    configs = _other_configs(hook, endpoint, live)
    superseded = [name for name in _superseded(endpoint, configs) if name != serving]
    if serving in configs:
        superseded.insert(0, serving)
    kept = {live, *superseded[:_KEPT]}
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
