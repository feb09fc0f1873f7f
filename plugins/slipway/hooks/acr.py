"""Azure's registry: a token of Microsoft Entra is exchanged for one of the registry's own.

Source of the protocol: https://azure.github.io/acr/AAD-OAuth.html
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from airflow.sdk.log import mask_secret

from slipway.errors import Unavailable, UserError
from slipway.hooks.registry import DockerRegistryHook
from slipway.hooks.registry_v2 import Login, challenge

__all__ = ["AcrRegistryHook"]

_SCOPE = "https://containerregistry.azure.net/.default"
# The user that a registry's refresh token logs in as.
_TOKEN_USER = "00000000-0000-0000-0000-000000000000"  # noqa: S105  # a name
_TIMEOUT_SECONDS = 30


class AcrRegistryHook(DockerRegistryHook):
    """An Azure container registry.

    :param conn_id: a connection of the microsoft-azure provider's type `azure_container_registry`, the login server as
        host. With the extra `tenant_id`, login and password are a service principal's; without it, they are the
        registry's own (its admin user or a token); without a password, Azure's default credential chain is used, with
        the extras `managed_identity_client_id` and `workload_identity_tenant_id`.
    """

    def __init__(self, conn_id: str = "azure_container_registry_default") -> None:
        super().__init__(conn_id)

    @cached_property
    def login(self) -> Login | None:
        """The registry's own login, or the refresh token (good for three hours) that Azure's credential brings."""
        connection, extra = self._connection, self._connection.extra_dejson
        if connection.password and not extra.get("tenant_id"):
            return Login(connection.login or "", connection.password)
        return Login(_TOKEN_USER, self._exchange(self._access_token(extra), extra.get("tenant_id")))

    def _access_token(self, extra: dict[str, Any]) -> str:
        """Return a token of Microsoft Entra for registries."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError, ServiceRequestError
        from azure.identity import ClientSecretCredential

        connection = self._connection
        try:
            if connection.password:
                credential: Any = ClientSecretCredential(
                    extra["tenant_id"], connection.login or "", connection.password
                )
            else:
                from airflow.providers.microsoft.azure.utils import get_sync_default_azure_credential

                credential = get_sync_default_azure_credential(
                    managed_identity_client_id=extra.get("managed_identity_client_id"),
                    workload_identity_tenant_id=extra.get("workload_identity_tenant_id"),
                )
            token = str(credential.get_token(_SCOPE).token)
        except ClientAuthenticationError as e:
            raise UserError(
                f"Azure refuses the credentials of connection '{self.conn_id}' ({_first_line(e)}): correct them."
            ) from None
        except (AzureError, ValueError) as e:
            passing = isinstance(e, ServiceRequestError)
            raise (Unavailable if passing else UserError)(
                f"Azure gives connection '{self.conn_id}' no token ({_first_line(e)})."
            ) from None
        mask_secret(token)
        return token

    def _exchange(self, access_token: str, tenant: str | None) -> str:
        """Return the registry's refresh token for a token of Microsoft Entra."""
        import httpx

        try:
            asked = challenge(httpx.get(f"{self.url}/v2/", timeout=_TIMEOUT_SECONDS))
            form = {"grant_type": "access_token", "service": asked.get("service", ""), "access_token": access_token}
            if tenant:
                form["tenant"] = tenant
            realm = asked.get("realm", f"{self.url}/oauth2/token")
            answer = httpx.post(realm.removesuffix("/token") + "/exchange", data=form, timeout=_TIMEOUT_SECONDS)
        except httpx.TransportError as e:
            raise Unavailable(
                f"The registry does not answer at {self.url} ({type(e).__name__}): check that connection "
                f"'{self.conn_id}' names its login server."
            ) from None
        if not answer.is_success:
            refused = answer.status_code in {400, 401, 403}
            raise (UserError if refused else Unavailable)(
                f"The registry at {self.url} takes no token of connection '{self.conn_id}' (HTTP "
                f"{answer.status_code}): give its principal the role AcrPush on the registry."
            )
        token = str(answer.json()["refresh_token"])
        mask_secret(token)
        return token


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
