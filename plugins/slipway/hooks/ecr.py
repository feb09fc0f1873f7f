"""Amazon's registry: a token for the login, and repositories that must be made first."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from airflow.sdk import Variable
from airflow.sdk.log import mask_secret

from slipway.errors import Unavailable, UserError
from slipway.hooks.registry_v2 import Login

__all__ = ["EcrRegistryHook"]

_PASSING = {"ServerException", "ThrottlingException", "TooManyRequestsException", "RequestLimitExceeded"}


class EcrRegistryHook:
    """The private registry of an AWS account, through the amazon provider's hook.

    https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html

    :param aws_conn_id: the AWS connection; the variable `mlops.region` goes before its own region.
    :param region: goes before both.
    """

    def __init__(self, aws_conn_id: str = "aws_default", region: str | None = None) -> None:
        self.aws_conn_id = aws_conn_id
        self.region = region

    @cached_property
    def _client(self) -> Any:
        from airflow.providers.amazon.aws.hooks.ecr import EcrHook

        region = self.region or Variable.get("mlops.region", default=None)
        hook: Any = EcrHook(aws_conn_id=self.aws_conn_id, region_name=region or None)
        with _errors("sign in to ECR"):
            return hook.conn

    @cached_property
    def _token(self) -> dict[str, Any]:
        with _errors("get a token for ECR"):
            return dict(self._client.get_authorization_token()["authorizationData"][0])

    @property
    def url(self) -> str:
        """Root of the registry's API: the `proxyEndpoint` that came with the token."""
        return str(self._token["proxyEndpoint"]).rstrip("/")

    @property
    def login(self) -> Login:
        """`AWS` and the token, which holds for 12 hours."""
        user, _, password = base64.b64decode(self._token["authorizationToken"]).decode().partition(":")
        mask_secret(password)
        return Login(user, password)

    def prepare(self, repository: str) -> None:
        """Make the repository if it is not there: tags that cannot be moved, and a scan of each push."""
        with _errors(f"make repository '{repository}' in ECR"):
            try:
                self._client.create_repository(
                    repositoryName=repository,
                    imageTagMutability="IMMUTABLE",
                    imageScanningConfiguration={"scanOnPush": True},
                )
            except self._client.exceptions.RepositoryAlreadyExistsException:
                return


@contextmanager
def _errors(what: str) -> Iterator[None]:
    """Translate botocore's errors to Slipway's."""
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, NoRegionError

    try:
        yield
    except (NoCredentialsError, NoRegionError) as e:
        raise UserError(
            f"Slipway cannot {what} ({e}): put credentials and a region into the AWS connection, or the region into "
            "the variable 'mlops.region'."
        ) from None
    except ClientError as e:
        code = e.response.get("Error", {}).get("Code", "")
        status = e.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        raise (Unavailable if code in _PASSING or status >= 500 else UserError)(f"Slipway cannot {what}: {e}") from None
    except BotoCoreError as e:
        raise Unavailable(f"Slipway cannot {what}: {e}") from None
