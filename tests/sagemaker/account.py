"""What is in the sandbox's account, as boto3 lists it."""

from __future__ import annotations

import json
import time
from functools import cached_property
from typing import Any

import boto3
import httpx

from slipway_sandbox.aws.server import REGION
from slipway_sandbox.aws.settings import ACCOUNT
from slipway_sandbox.aws.signature import ACCESS_KEY, SECRET_KEY

BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/slipway/scoring:test"


class Account:
    """The account of one sandbox."""

    def __init__(self, url: str) -> None:
        self.url = url

    def client(self, service: str) -> Any:
        return boto3.client(
            service, endpoint_url=self.url, region_name=REGION,
            aws_access_key_id=ACCESS_KEY, aws_secret_access_key=SECRET_KEY,
        )  # fmt: skip

    @cached_property
    def sagemaker(self) -> Any:
        return self.client("sagemaker")

    @cached_property
    def runtime(self) -> Any:
        return self.client("sagemaker-runtime")

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")

    @cached_property
    def scaling(self) -> Any:
        return self.client("application-autoscaling")

    def administer(self, what: str, body: Any = None, method: str = "PUT") -> Any:
        answer = httpx.request(method if body is not None or method == "DELETE" else "GET",
                               f"{self.url}/_sandbox/{what}", json=body)  # fmt: skip
        answer.raise_for_status()
        return answer.json()

    def predict(self, endpoint: str) -> Any:
        body = {"dataframe_split": {"columns": ["a"], "data": [[1.0], [2.0]]}}
        answer = self.runtime.invoke_endpoint(
            EndpointName=endpoint, ContentType="application/json", Body=json.dumps(body)
        )
        return json.load(answer["Body"])["predictions"]

    def describe(self, endpoint: str) -> dict[str, Any]:
        return dict(self.sagemaker.describe_endpoint(EndpointName=endpoint))

    def tags(self, endpoint: str) -> dict[str, str]:
        listed = self.sagemaker.list_tags(ResourceArn=self.describe(endpoint)["EndpointArn"])["Tags"]
        return {tag["Key"]: tag["Value"] for tag in listed}

    def settled(self, endpoint: str, seconds: float = 60) -> dict[str, Any]:
        deadline = time.monotonic() + seconds
        while (found := self.describe(endpoint))["EndpointStatus"] not in {"InService", "Failed"}:
            assert time.monotonic() < deadline, found
            time.sleep(0.05)
        return found

    def resources(self, endpoint: str) -> dict[str, list[str]]:
        """Every resource that is named after an endpoint, of every kind that there is."""
        found: dict[str, list[str]] = {}
        for kind, key, name in (
            ("list_endpoints", "Endpoints", "EndpointName"),
            ("list_endpoint_configs", "EndpointConfigs", "EndpointConfigName"),
            ("list_models", "Models", "ModelName"),
        ):
            pages = self.sagemaker.get_paginator(kind).paginate(NameContains=endpoint)
            found[key] = sorted(one[name] for page in pages for one in page[key])
        objects = self.s3.list_objects_v2(Bucket=BUCKET, Prefix=f"slipway/{endpoint}/").get("Contents", [])
        found["Objects"] = sorted(one["Key"] for one in objects)
        uploads = self.s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
        found["Uploads"] = sorted(one["Key"] for one in uploads if endpoint in one["Key"])
        targets = self.scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
        found["Targets"] = sorted(t["ResourceId"] for t in targets if f"/{endpoint}/" in t["ResourceId"])
        policies = self.scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
        found["Policies"] = sorted(p["PolicyName"] for p in policies if f"/{endpoint}/" in p["ResourceId"])
        return found
