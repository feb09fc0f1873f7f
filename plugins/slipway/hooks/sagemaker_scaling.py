"""Application Auto Scaling of an endpoint's instances, by invocations a minute and instance.

Source: https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-add-code-define.html
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.sdk import BaseHook

from slipway.errors import UserError
from slipway.hooks.sagemaker import client_options
from slipway.hooks.sagemaker_errors import translated
from slipway.sagemaker.names import VARIANT

__all__ = ["SageMakerScalingHook"]

_METRIC = "SageMakerVariantInvocationsPerInstance"
_POLICY = "slipway-invocations"


class SageMakerScalingHook(BaseHook):
    """The scalable targets of endpoints.

    :param conn_id: an AWS connection.
    """

    def __init__(self, conn_id: str, region: str) -> None:
        super().__init__()
        self.conn_id = conn_id
        self.region = region

    @cached_property
    def _client(self) -> Any:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

        hook: Any = AwsBaseHook(
            aws_conn_id=self.conn_id,
            region_name=self.region,
            client_type="application-autoscaling",
            config=client_options(),
        )
        with translated("connect", self.conn_id):
            return hook.conn

    def find(self, endpoint: str) -> dict[str, Any] | None:
        """Return an endpoint's `min`, `max` and `target` (None without a policy of ours); None if it does not scale."""
        with translated(f"read the autoscaling of endpoint '{endpoint}'", self.conn_id):
            target = _only(
                self._client.describe_scalable_targets(ServiceNamespace="sagemaker", ResourceIds=[_resource(endpoint)])[
                    "ScalableTargets"
                ]
            )
            if target is None:
                return None
            policy = _only(
                self._client.describe_scaling_policies(
                    ServiceNamespace="sagemaker", ResourceId=_resource(endpoint), PolicyNames=[_POLICY]
                )["ScalingPolicies"]
            )
        value = policy["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] if policy else None
        return {"min": target["MinCapacity"], "max": target["MaxCapacity"], "target": value}

    def check_ours(self, endpoint: str) -> None:
        """Check that no policy but Slipway's would be lost if the scaling were taken away and set up again.

        :raises UserError: otherwise.
        """
        with translated(f"read the autoscaling of endpoint '{endpoint}'", self.conn_id):
            found = self._client.describe_scaling_policies(
                ServiceNamespace="sagemaker", ResourceId=_resource(endpoint)
            )["ScalingPolicies"]
        if others := sorted(policy["PolicyName"] for policy in found if policy["PolicyName"] != _POLICY):
            raise UserError(
                f"Endpoint '{endpoint}' is scaled by {', '.join(others)}, which Slipway did not make, and AWS changes "
                "no instance type of an endpoint that is scaled: remove that policy first, or keep the instance_type."
            )

    def set(self, endpoint: str, wanted: dict[str, Any]) -> None:
        """Let an endpoint scale between `min` and `max` for `target` invocations; again is the same as once."""
        with translated(f"set the autoscaling of endpoint '{endpoint}'", self.conn_id):
            self._client.register_scalable_target(
                **_target(endpoint), MinCapacity=wanted["min"], MaxCapacity=wanted["max"]
            )
            if wanted["target"] is None:
                return
            self._client.put_scaling_policy(
                **_target(endpoint),
                PolicyName=_POLICY,
                PolicyType="TargetTrackingScaling",
                TargetTrackingScalingPolicyConfiguration={
                    "TargetValue": wanted["target"],
                    "PredefinedMetricSpecification": {"PredefinedMetricType": _METRIC},
                },
            )

    def remove(self, endpoint: str) -> bool:
        """Take an endpoint's scaling away, whoever set it up, policies first; return whether there was any."""
        resource = {"ServiceNamespace": "sagemaker", "ResourceId": _resource(endpoint)}
        with translated(f"remove the autoscaling of endpoint '{endpoint}'", self.conn_id):
            for policy in self._client.describe_scaling_policies(**resource)["ScalingPolicies"]:
                self._client.delete_scaling_policy(**_target(endpoint), PolicyName=policy["PolicyName"])
            found = self._client.describe_scalable_targets(
                ServiceNamespace="sagemaker", ResourceIds=[_resource(endpoint)]
            )["ScalableTargets"]
            if found:
                self._client.deregister_scalable_target(**_target(endpoint))
        return bool(found)


def _resource(endpoint: str) -> str:
    return f"endpoint/{endpoint}/variant/{VARIANT}"


def _target(endpoint: str) -> dict[str, str]:
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": _resource(endpoint),
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def _only(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    return found[0] if found else None
