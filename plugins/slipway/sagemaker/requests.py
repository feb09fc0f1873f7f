"""The requests that a deploy sends to SageMaker, made from its plan alone.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Operations_Amazon_SageMaker_Service.html
"""

from __future__ import annotations

from typing import Any

from slipway.sagemaker.names import VARIANT, owner_tags
from slipway.sagemaker.options import Options, Strategy

__all__ = ["back_request", "config_request", "endpoint_request", "model_request", "tag_list", "update_request"]

_TYPES = {"all_at_once": "ALL_AT_ONCE", "canary": "CANARY", "linear": "LINEAR"}
_SIZES = {"canary": "CanarySize", "linear": "LinearStepSize"}


def tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    """Return tags as SageMaker takes them."""
    return [{"Key": key, "Value": value} for key, value in sorted(tags.items())]


def model_request(plan: dict[str, Any], *, image: str, data: str) -> dict[str, Any]:
    """Return CreateModel's request.

    :param image: the image's reference.
    :param data: S3 URI of `model.tar.gz`.
    """
    options = Options.model_validate(plan["options"])
    environment = {
        **options.environment,
        "SLIPWAY_MODEL_NAME": plan["model"],
        "SLIPWAY_MODEL_VERSION": plan["version"],
    }
    request: dict[str, Any] = {
        "ModelName": plan["name"],
        "ExecutionRoleArn": plan["place"]["role"],
        "PrimaryContainer": {"Image": image, "ModelDataUrl": data, "Environment": environment},
        "Tags": _all_tags(plan),
    }
    if options.vpc:
        request["VpcConfig"] = {
            "Subnets": options.vpc.subnets,
            "SecurityGroupIds": options.vpc.security_groups,
        }
    return request


def config_request(plan: dict[str, Any]) -> dict[str, Any]:
    """Return CreateEndpointConfig's request."""
    options = Options.model_validate(plan["options"])
    variant: dict[str, Any] = {"VariantName": VARIANT, "ModelName": plan["name"]}
    if options.serverless:
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": options.mode.memory,
            "MaxConcurrency": options.mode.max_concurrency,
        }
    else:
        variant |= {"InstanceType": options.instance_type, "InitialInstanceCount": plan["instance_count"]}
        variant["InitialVariantWeight"] = 1.0
    request: dict[str, Any] = {
        "EndpointConfigName": plan["name"],
        "ProductionVariants": [variant],
        "Tags": _all_tags(plan),
    }
    if options.kms:
        request["KmsKeyId"] = options.kms
    if capture := options.data_capture:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": capture.percentage,
            "DestinationS3Uri": capture.s3_uri,
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            "CaptureContentTypeHeader": {
                "CsvContentTypes": ["text/csv"],
                "JsonContentTypes": ["application/json", "application/jsonlines"],
            },
            **({"KmsKeyId": capture.kms} if capture.kms else {}),
        }
    return request


def endpoint_request(plan: dict[str, Any]) -> dict[str, Any]:
    """Return CreateEndpoint's request."""
    return {"EndpointName": plan["endpoint"], "EndpointConfigName": plan["name"], "Tags": _all_tags(plan)}


def update_request(plan: dict[str, Any], *, patience: int) -> dict[str, Any]:
    """Return UpdateEndpoint's request.

    What autoscaling made of the number of instances is kept, unless the deploy gives one itself. Data capture is in
    the new configuration, also where it only goes on.

    :param patience: how many seconds the new instances are given to come up.
    """
    options = Options.model_validate(plan["options"])
    request = back_request(plan["endpoint"], plan["name"], retain_count=not options.instance_count)
    if not options.serverless:
        request["DeploymentConfig"] = _deployment(options.strategy, patience)
    return request


def back_request(endpoint: str, name: str, *, retain_count: bool = True) -> dict[str, Any]:
    """Return UpdateEndpoint's request that goes back to a configuration that served before.

    :param retain_count: whether there are to be as many instances as there are, and not as many as it says.
    """
    request: dict[str, Any] = {
        "EndpointName": endpoint,
        "EndpointConfigName": name,
        "RetainAllVariantProperties": True,
    }
    if not retain_count:
        request["ExcludeRetainedVariantProperties"] = [{"VariantPropertyType": "DesiredInstanceCount"}]
    return request


def _deployment(strategy: Strategy, patience: int) -> dict[str, Any]:
    routing: dict[str, Any] = {"Type": _TYPES[strategy.type], "WaitIntervalInSeconds": strategy.wait}
    if strategy.type in _SIZES:
        routing[_SIZES[strategy.type]] = {"Type": "CAPACITY_PERCENT", "Value": strategy.percent}
    else:
        # Required, and of no effect: the one step is followed by the bake.
        routing["WaitIntervalInSeconds"] = strategy.bake
    policy: dict[str, Any] = {
        "TrafficRoutingConfiguration": routing,
        "MaximumExecutionTimeoutInSeconds": strategy.limit(patience),
    }
    if strategy.bake:
        policy["TerminationWaitInSeconds"] = strategy.bake
    deployment: dict[str, Any] = {"BlueGreenUpdatePolicy": policy}
    if strategy.alarms:
        deployment["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in strategy.alarms]}
    return deployment


def _all_tags(plan: dict[str, Any]) -> list[dict[str, str]]:
    return tag_list({**plan["tags"], **owner_tags(plan)})
