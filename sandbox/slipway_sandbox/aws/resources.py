"""SageMaker's calls about models, endpoint configurations and tags."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from slipway_sandbox.aws import neighbours
from slipway_sandbox.aws.protocol import AwsError
from slipway_sandbox.aws.registry import Registries
from slipway_sandbox.aws.settings import Behaviour
from slipway_sandbox.aws.store import Endpoint, Region, Resource

__all__ = ["Resources"]

_SERVERLESS_MEMORY = range(1024, 6144 + 1, 1024)


class Resources:
    """The calls; each takes a region and the request's parameters, and returns the answer's.

    :param registries: which images there are; None: all, because nothing runs in containers.
    """

    def __init__(self, registries: Registries | None, behaviour: Behaviour) -> None:
        self._registries = registries
        self._behaviour = behaviour

    def create_model(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        name, container = params["ModelName"], params.get("PrimaryContainer")
        arn = region.arn("model", name)
        if container is None or "Image" not in container:
            raise AwsError("ValidationException", "A model needs a PrimaryContainer with an Image here.")
        role = params.get("ExecutionRoleArn", "")
        if not neighbours.role_exists(role):
            raise AwsError(
                "ValidationException",
                f"Could not assume role {role}. Please ensure that the role exists and allows principal "
                "'sagemaker.amazonaws.com' to assume the role.",
            )
        self._check_image(region, container["Image"])
        data = container.get("ModelDataUrl")
        if data and neighbours.read_object(data) is None:
            raise AwsError("ValidationException", f"Could not find model data at {data}.")
        with region.lock:
            if name in region.models:
                raise AwsError("ValidationException", f'Cannot create already existing model "{arn}".')
            region.models[name] = Resource(name, arn, params, self._behaviour.stale_reads)
            region.tag(arn, params.get("Tags", []))
        return {"ModelArn": arn}

    def _check_image(self, region: Region, image: str) -> None:
        if self._registries is None:
            return
        registry = self._registries.of(region.name)
        host, _, rest = image.partition("/")
        if host != registry.host:
            raise AwsError(
                "ValidationException",
                f'Using non-ECR image "{image}" without Vpc repository access mode is not supported.',
            )
        repository, _, reference = rest.partition("@") if "@" in rest else rest.partition(":")
        if registry.digest(repository, reference or "latest") is None:
            raise AwsError("ValidationException", f"Requested image {image} not found.")

    def describe_model(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        model = region.model(params["ModelName"])
        return {"ModelArn": model.arn, "CreationTime": model.created, **_untagged(model)}

    def delete_model(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        with region.lock:
            model = region.model(params["ModelName"])
            del region.models[model.name]
            region.tags.pop(model.arn, None)
        return {}

    def list_models(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        return _listed(region.models.values(), params, "Models", "Model")

    def create_endpoint_config(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        name = params["EndpointConfigName"]
        arn = region.arn("endpoint-config", name)
        if len(params["ProductionVariants"]) != 1:
            raise AwsError("ValidationException", "The sandbox serves endpoints with one production variant.")
        (variant,) = params["ProductionVariants"]
        with region.lock:
            model = region.model(variant["ModelName"], use=True)
            _check_variant(variant, model, params)
            if name in region.configs:
                raise AwsError("ValidationException", f'Cannot create already existing endpoint configuration "{arn}".')
            region.configs[name] = Resource(name, arn, params, self._behaviour.stale_reads)
            region.tag(arn, params.get("Tags", []))
        return {"EndpointConfigArn": arn}

    def describe_endpoint_config(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        config = region.config(params["EndpointConfigName"])
        return {"EndpointConfigArn": config.arn, "CreationTime": config.created, **_untagged(config)}

    def delete_endpoint_config(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        with region.lock:
            config = region.config(params["EndpointConfigName"])
            # The real one only warns of this in its documentation; here it is found out.
            if used := [e.name for e in region.endpoints.values() if config.name in {e.config, e.pending}]:
                raise AwsError("ValidationException", f"Endpoint configuration {config.name} is in use by {used}.")
            del region.configs[config.name]
            region.tags.pop(config.arn, None)
        return {}

    def list_endpoint_configs(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        return _listed(region.configs.values(), params, "EndpointConfigs", "EndpointConfig")

    def list_endpoints(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        return _listed(region.endpoints.values(), params, "Endpoints", "Endpoint")

    def add_tags(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        with region.lock:
            _check_arn(region, params["ResourceArn"])
            region.tag(params["ResourceArn"], params["Tags"])
            return {"Tags": _tags(region, params["ResourceArn"])}

    def delete_tags(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        with region.lock:
            _check_arn(region, params["ResourceArn"])
            for key in params["TagKeys"]:
                region.tags.get(params["ResourceArn"], {}).pop(key, None)
        return {}

    def list_tags(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        with region.lock:
            _check_arn(region, params["ResourceArn"])
            return {"Tags": _tags(region, params["ResourceArn"])}


def _check_variant(variant: dict[str, Any], model: Resource, params: dict[str, Any]) -> None:
    serverless = variant.get("ServerlessConfig")
    if serverless is None:
        if "InstanceType" not in variant or "InitialInstanceCount" not in variant:
            raise AwsError("ValidationException", "A variant needs InstanceType and InitialInstanceCount.")
        return
    if "InstanceType" in variant or "InitialInstanceCount" in variant:
        raise AwsError("ValidationException", "ServerlessConfig goes with neither InstanceType nor an instance count.")
    if serverless["MemorySizeInMB"] not in _SERVERLESS_MEMORY:
        raise AwsError("ValidationException", f"MemorySizeInMB must be one of {list(_SERVERLESS_MEMORY)}.")
    for feature, given in (("VpcConfig", model.request), ("DataCaptureConfig", params)):
        if feature in given:
            raise AwsError("ValidationException", f"{feature} is not supported for serverless endpoints.")


def _check_arn(region: Region, arn: str) -> None:
    kinds = (region.models, region.configs, region.endpoints)
    if not any(resource.arn == arn for kind in kinds for resource in kind.values()):
        raise AwsError("ValidationException", f"Could not find resource {arn}.")


def _tags(region: Region, arn: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in region.tags.get(arn, {}).items()]


def _untagged(resource: Resource) -> dict[str, Any]:
    return {key: value for key, value in resource.request.items() if key != "Tags"}


def _listed(
    resources: Iterable[Resource] | Iterable[Endpoint], params: dict[str, Any], key: str, kind: str
) -> dict[str, Any]:
    """Return a page: newest first, at most 100, and the number of the next one as its token."""
    found = [r for r in resources if params.get("NameContains", "").lower() in r.name.lower()]
    found.sort(key=lambda r: r.created, reverse=params.get("SortOrder", "Descending") == "Descending")
    start, size = int(params.get("NextToken", 0)), params.get("MaxResults", 10)
    page = [
        {f"{kind}Name": r.name, f"{kind}Arn": r.arn, "CreationTime": r.created}
        | ({"EndpointStatus": r.status, "LastModifiedTime": r.modified} if isinstance(r, Endpoint) else {})
        for r in found[start : start + size]
    ]
    more = {"NextToken": str(start + size)} if start + size < len(found) else {}
    return {key: page, **more}
