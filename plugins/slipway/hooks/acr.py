"""Azure's registry: a token of Microsoft Entra is exchanged for one of the registry's own.

Source of the protocol: https://azure.github.io/acr/AAD-OAuth.html
"""

from __future__ import annotations

from functools import cached_property

from airflow.sdk.log import mask_secret

from slipway.azureml.workspace import Workspace
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
        host. With a password, login and password are the registry's own (its admin user, or a token); without one, the
        credential of `azureml_conn_id` is exchanged for a token of the registry.
    :param azureml_conn_id: the AzureML workspace's connection.
    """

    def __init__(
        self, conn_id: str = "azure_container_registry_default", azureml_conn_id: str = "azureml_default"
    ) -> None:
        super().__init__(conn_id)
        self.azureml_conn_id = azureml_conn_id

    @cached_property
    def login(self) -> Login | None:
        """The registry's own login, or the refresh token (good for three hours) that Azure's credential brings."""
        connection = self._connection
        if connection.password:
            return Login(connection.login or "", connection.password)
        workspace = Workspace.from_connection(self.get_connection(self.azureml_conn_id))
        return Login(_TOKEN_USER, self._exchange(self._access_token(workspace), workspace.tenant_id))

    def _access_token(self, workspace: Workspace) -> str:
        """Return a token of Microsoft Entra for registries."""
        from azure.core.exceptions import AzureError, ClientAuthenticationError

        try:
            token = str(workspace.credential().get_token(_SCOPE).token)
        except (AzureError, ValueError) as e:
            refused = isinstance(e, (ClientAuthenticationError, ValueError))
            why = (str(e).strip().splitlines() or [type(e).__name__])[0][:300]
            raise (UserError if refused else Unavailable)(
                f"Azure gives connection '{self.azureml_conn_id}' no token for the registry ({why}): check its "
                "credentials."
            ) from None
        mask_secret(token)
        return token

    def _exchange(self, access_token: str, tenant: str) -> str:
        """Return the registry's refresh token for a token of Microsoft Entra."""
        import httpx

        form = {"grant_type": "access_token", "access_token": access_token}
        if tenant:
            form["tenant"] = tenant
        try:
            asked = challenge(httpx.get(f"{self.url}/v2/", timeout=_TIMEOUT_SECONDS))
            form["service"] = asked.get("service", "")
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
                f"The registry at {self.url} takes no token of connection '{self.azureml_conn_id}' (HTTP "
                f"{answer.status_code}): give its principal the role AcrPush on the registry."
            )
        token = str(answer.json()["refresh_token"])
        mask_secret(token)
        return token
