"""Where a deploy to SageMaker goes: what Airflow's Variables say, overridden by a run's conf."""

from __future__ import annotations

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


def find_place(conn_id: str, given: dict[str, Any], *, with_role: bool = True) -> Place:
    """Return the place that a run's conf (`region`, `aws_id`, `arn`, `bucket`) and Airflow's Variables name.

    :param with_role: False for what makes no model.
    :raises UserError: if something is missing or no such thing, in a sentence that says where to set it.
    """
    region, account = _value("region", given), _value("aws_id", given)
    role = _value("arn", given) if with_role else ""
    bucket = given.get("bucket") or _variable("mlops.bucket") or f"sagemaker-{region}-{account}"
    return Place(conn_id, region, account, role, str(bucket)).checked(_regions())


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
