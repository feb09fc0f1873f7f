"""A sandbox for tests, its clients, and models in its bucket."""

from __future__ import annotations

import io
import tarfile
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import httpx
from botocore.config import Config

from slipway_sandbox.aws.server import REGION, Sandbox
from slipway_sandbox.aws.settings import ACCOUNT
from slipway_sandbox.aws.signature import ACCESS_KEY, SECRET_KEY

BUCKET = f"sagemaker-{REGION}-{ACCOUNT}"
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/slipway:test"


def client(sandbox: Sandbox, service: str, **options: Any) -> Any:
    """An unmodified boto3 client of the sandbox; no retries, so that every error is seen."""
    return _client(sandbox.url, service, tuple(options.items()))


@cache
def _client(url: str, service: str, options: tuple[tuple[str, Any], ...]) -> Any:
    settings = {
        "endpoint_url": url,
        "region_name": REGION,
        "aws_access_key_id": ACCESS_KEY,
        "aws_secret_access_key": SECRET_KEY,
        "config": Config(retries={"total_max_attempts": 1}),
    }
    return boto3.client(service, **{**settings, **dict(options)})


def administer(sandbox: Sandbox, what: str, body: Any = None, *, method: str = "PUT") -> Any:
    """Call one of the sandbox's own routes."""
    answer = httpx.request(method if body is not None else "GET", f"{sandbox.url}/_sandbox/{what}", json=body)
    answer.raise_for_status()
    return answer.json()


def upload_model(sandbox: Sandbox, folder: Path, key: str) -> str:
    """Put a model directory as `model.tar.gz` into the bucket and return its URI."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(folder, arcname=".")
    client(sandbox, "s3").put_object(Bucket=BUCKET, Key=key, Body=buffer.getvalue())
    return f"s3://{BUCKET}/{key}"


def create_model(sandbox: Sandbox, name: str, data: str, *, image: str = IMAGE, **more: Any) -> None:
    client(sandbox, "sagemaker").create_model(
        ModelName=name, ExecutionRoleArn=sandbox.variables["mlops.arn"],
        PrimaryContainer={"Image": image, "ModelDataUrl": data}, **more,
    )  # fmt: skip


def create_config(
    sandbox: Sandbox, name: str, *, model: str | None = None, variant: dict[str, Any] | None = None, **more: Any
) -> None:
    """A configuration of the model of the same name, or another one."""
    variant = variant or {"InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    client(sandbox, "sagemaker").create_endpoint_config(
        EndpointConfigName=name,
        ProductionVariants=[{"VariantName": "AllTraffic", "ModelName": model or name, **variant}],
        **more,
    )


def settled(sandbox: Sandbox, endpoint: str, seconds: float = 60) -> dict[str, Any]:
    """The endpoint when nothing changes any more."""
    sagemaker = client(sandbox, "sagemaker")
    return wait_for(
        lambda: sagemaker.describe_endpoint(EndpointName=endpoint),
        lambda found: found["EndpointStatus"] in {"InService", "Failed"},
        seconds,
    )


def wait_for(look: Callable[[], Any], is_so: Callable[[Any], bool], seconds: float = 60) -> Any:
    deadline = time.monotonic() + seconds
    while not is_so(found := look()):
        assert time.monotonic() < deadline, found
        time.sleep(0.05)
    return found
