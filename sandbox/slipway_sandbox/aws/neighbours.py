"""The services that SageMaker leans on, as moto keeps them in this process: S3, IAM, CloudWatch and its logs."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from moto.backends import get_backend

from slipway_sandbox.aws.settings import ACCOUNT

__all__ = ["alarm_state", "append_logs", "is_scaled", "put_object", "read_object", "role_exists"]


def read_object(uri: str) -> tuple[str, bytes] | None:
    """Return an S3 object's ETag and content, or None if it is not there."""
    parts = urlsplit(uri)
    backend: Any = get_backend("s3")[ACCOUNT]["aws"]
    bucket = backend.buckets.get(parts.netloc)
    found = backend.get_object(parts.netloc, parts.path.lstrip("/")) if bucket else None
    return (found.etag.strip('"'), found.value) if found else None


def put_object(uri: str, content: bytes) -> bool:
    """Write an S3 object; return whether the bucket is there."""
    parts = urlsplit(uri)
    backend: Any = get_backend("s3")[ACCOUNT]["aws"]
    if parts.netloc not in backend.buckets:
        return False
    backend.put_object(parts.netloc, parts.path.lstrip("/"), content)
    return True


def role_exists(arn: str) -> bool:
    """Whether IAM knows a role."""
    backend: Any = get_backend("iam")[ACCOUNT]["aws"]
    return any(role.arn == arn for role in backend.get_roles())


def alarm_state(region: str, name: str) -> str | None:
    """Return a CloudWatch alarm's state, or None if there is no such alarm."""
    backend: Any = get_backend("cloudwatch")[ACCOUNT][region]
    alarm = backend.alarms.get(name)
    return str(alarm.state_value) if alarm else None


def is_scaled(region: str, resource: str) -> bool:
    """Whether application autoscaling has a resource as a target."""
    backend: Any = get_backend("applicationautoscaling")[ACCOUNT][region]
    return any(resource in targets for targets in backend.targets.values())


def append_logs(region: str, group: str, stream: str, lines: list[str]) -> None:
    """Append lines to a log stream, which is made if it is not there."""
    backend: Any = get_backend("logs")[ACCOUNT][region]
    backend.ensure_log_group(group)
    backend.ensure_log_stream(group, stream)
    now = int(time.time() * 1000)
    backend.put_log_events(group, stream, [{"timestamp": now, "message": line} for line in lines])
