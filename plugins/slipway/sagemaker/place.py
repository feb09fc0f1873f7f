"""Where a deploy goes: region, account, role and bucket, from Airflow Variables, overridden by a run's conf."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from typing import Any, Self

from slipway.errors import UserError

__all__ = ["Place", "region_of"]

_ROLE = re.compile(r"arn:[a-z-]+:iam::(\d{12}):role/.+")
_ACCOUNT = re.compile(r"\d{12}")
_VARIABLES = {
    "region": ("mlops.region", "the AWS region, such as us-east-1"),
    "aws_id": ("mlops.aws_id", "the number of the AWS account"),
    "arn": ("mlops.arn", "the ARN of the role that SageMaker takes, such as arn:aws:iam::123456789012:role/sagemaker"),
}


@dataclass(frozen=True)
class Place:
    """Where everything of an endpoint is.

    :param conn_id: the AWS connection.
    :param role: ARN of the role that the containers run with.
    :param bucket: name of the bucket for model data; its lock is there too.
    """

    conn_id: str
    region: str
    account: str
    role: str
    bucket: str

    @classmethod
    def find(cls, conn_id: str, given: dict[str, Any], *, with_role: bool = True) -> Self:
        """Return the place that a run's conf (`region`, `aws_id`, `arn`, `bucket`) and Airflow's Variables name.

        :param with_role: False for what makes no model.
        :raises UserError: if something is missing or no such thing, in a sentence that says where to set it.
        """
        region = check_region(_value("region", given))
        account = _value("aws_id", given)
        if not _ACCOUNT.fullmatch(account):
            raise UserError(f"mlops.aws_id is '{account}': give the 12 digits of the AWS account.")
        role = _value("arn", given) if with_role else ""
        owner = _ROLE.fullmatch(role)
        if with_role and (owner is None or owner[1] != account):
            raise UserError(
                f"mlops.arn is '{role}': give the ARN of a role in account {account} (mlops.aws_id), such as "
                f"arn:aws:iam::{account}:role/sagemaker."
            )
        bucket = given.get("bucket") or _variable("mlops.bucket") or f"sagemaker-{region}-{account}"
        return cls(conn_id, region, account, role, str(bucket))

    def as_dict(self) -> dict[str, str]:
        """Return it for a plan."""
        return asdict(self)


def check_region(region: str) -> str:
    """Return `region` if SageMaker is there.

    :raises UserError: otherwise.
    """
    import boto3

    session = boto3.session.Session()
    known = {r for p in session.get_available_partitions() for r in session.get_available_regions("sagemaker", p)}
    if region not in known:
        raise UserError(
            f"There is no SageMaker in region '{region}': set Variable mlops.region (or the conf's region) to one such "
            "as us-east-1."
        )
    return region


def region_of(given: str | None = None) -> str | None:
    """Return the region to use where there is no conf; None leaves it to the connection."""
    return given or _variable("mlops.region")


def _value(name: str, given: dict[str, Any]) -> str:
    variable, what = _VARIABLES[name]
    found = given.get(name) or _variable(variable)
    if not found:
        raise UserError(f"{variable} is not set: set it under Admin → Variables to {what}, or give {name} in the conf.")
    return str(found).strip()


def _variable(name: str) -> str | None:
    from airflow.sdk import Variable

    found = Variable.get(name, default=None)
    return str(found) if found else None
