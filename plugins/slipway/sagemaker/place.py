"""Where a deploy goes: region, account, role and bucket. No I/O: `slipway.hooks.sagemaker_place` looks them up."""

from __future__ import annotations

import re
from collections.abc import Container
from dataclasses import asdict, dataclass
from typing import Any, Self

from slipway.errors import UserError

__all__ = ["Place"]

_ROLE = re.compile(r"arn:[a-z-]+:iam::(\d{12}):role/.+")
_ACCOUNT = re.compile(r"\d{12}")


@dataclass(frozen=True)
class Place:
    """Where everything of an endpoint is.

    :param conn_id: the AWS connection.
    :param role: ARN of the role that the containers run with; empty for what makes no model.
    :param bucket: name of the bucket for model data.
    :param lock_bucket: name of the bucket that the endpoint's lock is in. No conf changes it: two runs that name
        different buckets are to meet there.
    :param recorded: whether region, account and bucket are those of what is deployed.
    """

    conn_id: str
    region: str
    account: str
    role: str
    bucket: str
    lock_bucket: str
    recorded: bool = False

    def checked(self, regions: Container[str]) -> Self:
        """Return it if it can be.

        :param regions: where SageMaker is.
        :raises UserError: otherwise, in a sentence that says where to set what is wrong.
        """
        if self.region not in regions:
            raise UserError(
                f"There is no SageMaker in region '{self.region}': set Variable mlops.region (or the conf's region) to "
                "one such as us-east-1."
            )
        if not _ACCOUNT.fullmatch(self.account):
            raise UserError(f"mlops.aws_id is '{self.account}': give the 12 digits of the AWS account.")
        owner = _ROLE.fullmatch(self.role)
        if self.role and (owner is None or owner[1] != self.account):
            raise UserError(
                f"mlops.arn is '{self.role}': give the ARN of a role in account {self.account} (mlops.aws_id), such as "
                f"arn:aws:iam::{self.account}:role/sagemaker."
            )
        return self

    def as_dict(self) -> dict[str, Any]:
        """Return it for a plan."""
        return asdict(self)
