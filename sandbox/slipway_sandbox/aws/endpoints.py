"""The life of endpoints: Creating, InService, Updating, RollingBack, Failed, Deleting.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html and, for updates,
https://docs.aws.amazon.com/sagemaker/latest/dg/deployment-guardrails-blue-green.html
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from slipway_sandbox.aws import neighbours
from slipway_sandbox.aws.fleet import Fleet, Fleets, ProvisioningError
from slipway_sandbox.aws.protocol import AwsError
from slipway_sandbox.aws.rollout import Rollback, check_deployment, shift_traffic
from slipway_sandbox.aws.settings import Behaviour
from slipway_sandbox.aws.store import Endpoint, Region, Resource

__all__ = ["Endpoints"]


class Endpoints:
    """The calls about endpoints; what takes its time goes on in a thread of its own."""

    def __init__(self, fleets: Fleets, behaviour: Behaviour) -> None:
        self._fleets = fleets
        self._behaviour = behaviour

    def create_endpoint(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        name = params["EndpointName"]
        with region.lock:
            config = region.config(params["EndpointConfigName"], use=True)
            arn = region.arn("endpoint", name)
            if name in region.endpoints:
                raise AwsError("ValidationException", f'Cannot create already existing endpoint "{arn}".')
            self._check_quota(region, config, name)
            endpoint = Endpoint(name, arn, config.name, instances=_instances(config))
            endpoint.capture = config.request.get("DataCaptureConfig")
            region.endpoints[name] = endpoint
            region.tag(arn, params.get("Tags", []))
        _in_background(self._create, region, endpoint)
        return {"EndpointArn": arn}

    def _create(self, region: Region, endpoint: Endpoint) -> None:
        try:
            fleet = self._start(region, endpoint, endpoint.config)
        except ProvisioningError as error:
            _settle(region, endpoint, "Failed", str(error))
            return
        endpoint.live = fleet
        _settle(region, endpoint, "InService")

    def update_endpoint(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        deployment = params.get("DeploymentConfig")
        with region.lock:
            endpoint = region.endpoint(params["EndpointName"])
            config = region.config(params["EndpointConfigName"], use=True)
            if endpoint.status not in {"InService", "Failed", "UpdateRollbackFailed"}:
                raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".')
            if endpoint.live is None:
                raise AwsError("ValidationException", f'Cannot update endpoint "{endpoint.arn}" in status Failed.')
            before = region.config(endpoint.config)
            if _is_serverless(config) and not _is_serverless(before):
                raise AwsError("ValidationException", "Converting a real-time endpoint to serverless is not supported.")
            self._check_quota(region, config, endpoint.name)
            check_deployment(region.name, deployment)
            _check_retained(params)
            _check_scaling(region, endpoint, before, config)
            endpoint.status, endpoint.pending, endpoint.reason = "Updating", config.name, None
            endpoint.modified = time.time()
            endpoint.deployment = deployment
        _in_background(self._update, region, endpoint, _retained(endpoint, config, params))
        return {"EndpointArn": endpoint.arn}

    def _update(self, region: Region, endpoint: Endpoint, then: dict[str, Any]) -> None:
        assert endpoint.pending  # noqa: S101
        try:
            endpoint.candidate = self._start(region, endpoint, endpoint.pending)
            shift_traffic(region, endpoint, self._behaviour.time_scale)
        except (ProvisioningError, Rollback) as error:
            silent = self._behaviour.outcome(endpoint.name).get("outcome") == "silent_rollback"
            with region.lock:
                endpoint.status, endpoint.share = "RollingBack", 0.0
                candidate, endpoint.candidate = endpoint.candidate, None
            if candidate:
                self._retire(region, endpoint, candidate)
            _settle(region, endpoint, "InService", None if silent else str(error))
            return
        with region.lock:
            old, endpoint.live = endpoint.live, endpoint.candidate
            endpoint.candidate, endpoint.share = None, 0.0
            endpoint.config = endpoint.pending
            endpoint.instances, endpoint.capture = then["instances"], then["capture"]
        if old:
            self._retire(region, endpoint, old)
        _settle(region, endpoint, "InService")

    def _start(self, region: Region, endpoint: Endpoint, config: str) -> Fleet:
        ordered = self._behaviour.outcome(endpoint.name)
        if ordered:
            self._behaviour.provision()
            raise ProvisioningError(ordered.get("reason", "This failure was ordered in the sandbox."))
        return self._fleets.start(region, endpoint.name, config)

    def _retire(self, region: Region, endpoint: Endpoint, fleet: Fleet) -> None:
        self._fleets.publish_logs(region, endpoint.name, fleet)
        fleet.retire()

    def update_endpoint_weights_and_capacities(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        (wanted,) = params["DesiredWeightsAndCapacities"]
        with region.lock:
            endpoint = region.endpoint(params["EndpointName"])
            if endpoint.status != "InService":
                raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".')
            endpoint.instances = wanted.get("DesiredInstanceCount", endpoint.instances)
        return {"EndpointArn": endpoint.arn}

    def delete_endpoint(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        with region.lock:
            endpoint = region.endpoint(params["EndpointName"])
            if endpoint.status in {"Creating", "Updating", "RollingBack", "Deleting"}:
                raise AwsError("ValidationException", f'Cannot update in-progress endpoint "{endpoint.arn}".')
            endpoint.status = "Deleting"
        _in_background(self._delete, region, endpoint)
        return {}

    def _delete(self, region: Region, endpoint: Endpoint) -> None:
        time.sleep(self._behaviour.delete_seconds)
        live, endpoint.live = endpoint.live, None
        if live:
            self._retire(region, endpoint, live)
        with region.lock:
            del region.endpoints[endpoint.name]
            region.tags.pop(endpoint.arn, None)

    def describe_endpoint(self, region: Region, params: dict[str, Any]) -> dict[str, Any]:
        with region.lock:
            endpoint = region.endpoint(params["EndpointName"])
            answer: dict[str, Any] = {
                "EndpointName": endpoint.name,
                "EndpointArn": endpoint.arn,
                "EndpointConfigName": endpoint.config,
                "EndpointStatus": endpoint.status,
                "CreationTime": endpoint.created,
                "LastModifiedTime": endpoint.modified,
            }
            if endpoint.live:
                answer["ProductionVariants"] = [_variant_summary(endpoint, endpoint.live)]
            if endpoint.reason:
                answer["FailureReason"] = endpoint.reason
            if endpoint.deployment:
                answer["LastDeploymentConfig"] = endpoint.deployment
            if endpoint.pending:
                answer["PendingDeploymentSummary"] = {"EndpointConfigName": endpoint.pending}
            if capture := endpoint.capture:
                answer["DataCaptureConfig"] = {
                    "EnableCapture": capture.get("EnableCapture", False),
                    "CaptureStatus": "Started" if capture.get("EnableCapture") else "Stopped",
                    "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
                    "DestinationS3Uri": capture["DestinationS3Uri"],
                    "KmsKeyId": capture.get("KmsKeyId", ""),
                }
            return answer

    def _check_quota(self, region: Region, config: Resource, name: str) -> None:
        (variant,) = config.request["ProductionVariants"]
        kind, wanted = variant.get("InstanceType"), variant.get("InitialInstanceCount", 0)
        limit = self._behaviour.quota.get(kind) if kind else None
        if limit is None:
            return
        others = [e for e in region.endpoints.values() if e.name != name]
        used = sum(e.instances or 0 for e in others if _variant(region.config(e.config)).get("InstanceType") == kind)
        if used + wanted > limit:
            raise AwsError(
                "ResourceLimitExceeded",
                f"The account-level service limit '{kind} for endpoint usage' is {limit} Instances, with current "
                f"utilization of {used} Instances and a request delta of {wanted} Instances. Please use AWS Service "
                "Quotas to request an increase for this quota.",
            )

    def publish_logs(self, region: Region) -> None:
        """Bring the endpoints' logs up to date, for somebody who is about to read them."""
        for endpoint in list(region.endpoints.values()):
            for fleet in (endpoint.live, endpoint.candidate):
                if fleet:
                    self._fleets.publish_logs(region, endpoint.name, fleet)

    def stop(self, region: Region) -> None:
        """End every server."""
        for endpoint in region.endpoints.values():
            for fleet in (endpoint.live, endpoint.candidate):
                if fleet:
                    fleet.retire()


def _settle(region: Region, endpoint: Endpoint, status: str, reason: str | None = None) -> None:
    with region.lock:
        endpoint.status, endpoint.reason, endpoint.pending = status, reason, None
        endpoint.modified = time.time()


def _retained(endpoint: Endpoint, config: Resource, params: dict[str, Any]) -> dict[str, Any]:
    """Return the instance count and data capture after an update: the configuration's; a count may be retained."""
    keeps = params.get("RetainAllVariantProperties", False) and "DesiredInstanceCount" not in _excluded(params)
    count = _instances(config)
    if keeps and count is not None and endpoint.instances is not None:
        count = endpoint.instances
    return {"instances": count, "capture": config.request.get("DataCaptureConfig")}


def _excluded(params: dict[str, Any]) -> set[str]:
    return {one["VariantPropertyType"] for one in params.get("ExcludeRetainedVariantProperties", [])}


def _check_retained(params: dict[str, Any]) -> None:
    if "DataCaptureConfig" in _excluded(params):
        raise AwsError("ValidationException", "Variant property type DataCaptureConfig is not currently supported.")


def _check_scaling(region: Region, endpoint: Endpoint, before: Resource, config: Resource) -> None:
    """Refuse another instance type while application autoscaling looks after the variant.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-scaling-update.html
    """
    kinds = {_variant(one).get("InstanceType") for one in (before, config)}
    name = _variant(before)["VariantName"]
    if len(kinds) > 1 and neighbours.is_scaled(region.name, f"endpoint/{endpoint.name}/variant/{name}"):
        raise AwsError(
            "ValidationException",
            f'The variant(s) "[{name}]" must be deregistered as scalable targets with AWS Auto Scaling before they can '
            "be removed or have their instance type changed.",
        )


def _variant(config: Resource) -> dict[str, Any]:
    return dict(config.request["ProductionVariants"][0])


def _instances(config: Resource) -> int | None:
    return _variant(config).get("InitialInstanceCount")


def _is_serverless(config: Resource) -> bool:
    return "ServerlessConfig" in _variant(config)


def _variant_summary(endpoint: Endpoint, fleet: Fleet) -> dict[str, Any]:
    summary: dict[str, Any] = {
        "VariantName": fleet.variant["VariantName"],
        "DeployedImages": [{"SpecifiedImage": fleet.image, "ResolvedImage": fleet.image}],
        "CurrentWeight": 1.0,
        "DesiredWeight": 1.0,
    }
    if "ServerlessConfig" in fleet.variant:
        serverless = fleet.variant["ServerlessConfig"]
        return {**summary, "CurrentServerlessConfig": serverless, "CurrentInstanceCount": 0}
    return {**summary, "CurrentInstanceCount": endpoint.instances, "DesiredInstanceCount": endpoint.instances}


def _in_background(work: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=work, args=arguments, daemon=True, name=work.__name__).start()
