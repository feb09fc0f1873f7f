"""Where a deploy to SageMaker goes: what Airflow's Variables say, overridden by a run's conf."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from slipway.errors import UserError
from slipway.sagemaker.place import Place

__all__ = ["find_place", "region_of"]

_VARIABLES = {
    "region": ("mlops.region", "the AWS region, such as us-east-1"),
    "aws_id": ("mlops.aws_id", "the number of the AWS account"),
    "arn": ("mlops.arn", "the ARN of the role that SageMaker takes, such as arn:aws:iam::123456789012:role/sagemaker"),
}
# What a conf may name, and the detail of a record that says it of what is deployed.
_RECORDED = {"region": "region", "aws_id": "account", "bucket": "bucket"}


def find_place(
    conn_id: str, given: dict[str, Any], record: Mapping[str, Any] | None = None, *, with_role: bool = True
) -> Place:
    """Return the place that a run's conf (`region`, `aws_id`, `arn`, `bucket`) and Airflow's Variables name.

    What is deployed stays where it is: for it, the record says so, whatever the Variables have become.

    :param record: `details` of the endpoint's record, if there is one.
    :param with_role: False for what makes no model.
    :raises UserError: if something is missing or no such thing, in a sentence that says where to set it; or if the
        conf names another place than the record.
    """
    record = record or {}
    known = {name: record[detail] for name, detail in _RECORDED.items() if record.get(detail)}
    for name, value in known.items():
        if given.get(name) and given[name] != value:
            raise UserError(
                f"The endpoint is deployed with {name} '{value}' and not '{given[name]}', and cannot move: leave "
                f"{name} out of the conf, or run undeploy_sagemaker first, or choose another endpoint."
            )
    given = {**given, **known}
    region, account = _value("region", given), _value("aws_id", given)
    role = _value("arn", given) if with_role else ""
    usual = _variable("mlops.bucket") or f"sagemaker-{region}-{account}"
    bucket = str(given.get("bucket") or usual)
    return Place(conn_id, region, account, role, bucket, usual, "bucket" in known).checked(_regions())


def region_of(given: str | None = None) -> str | None:
    """Return the region to use where there is no conf; None leaves it to the connection."""
    return given or _variable("mlops.region")


@cache
def _regions() -> frozenset[str]:
    """Return where SageMaker is, as far as boto3 knows."""
    import boto3

    session = boto3.session.Session()
    partitions = session.get_available_partitions()
    return frozenset(region for p in partitions for region in session.get_available_regions("sagemaker", p))


def _value(name: str, given: dict[str, Any]) -> str:
    variable, what = _VARIABLES[name]
    found = str(given.get(name) or _variable(variable) or "").strip()
    if not found:
        raise UserError(f"{variable} is not set: set it under Admin → Variables to {what}, or give {name} in the conf.")
    return found


def _variable(name: str) -> str | None:
    from airflow.sdk import Variable

    found = Variable.get(name, default=None)
    return str(found) if found else None
