"""What an Airflow connection of type `azureml` says: which workspace, and who we are there."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slipway.azureml.clouds import DEFAULT_CLOUD, Cloud, find_cloud
from slipway.errors import UserError

if TYPE_CHECKING:
    from airflow.sdk import Connection
    from azure.core.credentials import TokenCredential

__all__ = ["AUTHENTICATIONS", "Workspace"]

AUTHENTICATIONS = ("service_principal", "managed_identity", "workload_identity")
_NEEDED = ("subscription_id", "resource_group", "workspace")


@dataclass(frozen=True)
class Workspace:
    """An AzureML workspace and how to sign in.

    :param client_id: of the service principal, of the workload's application, or of a user-assigned managed identity.
    :param authentication: one of `AUTHENTICATIONS`.
    """

    conn_id: str
    subscription_id: str
    resource_group: str
    name: str
    authentication: str
    tenant_id: str = ""
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    cloud_name: str = DEFAULT_CLOUD

    @classmethod
    def from_connection(cls, connection: Connection) -> Workspace:
        """Read a connection.

        :raises UserError: if it does not name a workspace, or not how to sign in.
        """
        extra: dict[str, Any] = connection.extra_dejson
        conn_id = str(connection.conn_id)
        missing = [name for name in _NEEDED if not extra.get(name)]
        authentication = extra.get("authentication") or ("service_principal" if connection.password else "")
        if not authentication:
            missing.append("authentication")
        elif authentication not in AUTHENTICATIONS:
            raise UserError(
                f"Connection '{conn_id}' asks for authentication '{authentication}': use one of "
                f"{', '.join(AUTHENTICATIONS)}."
            )
        if authentication == "service_principal":
            given = {
                "tenant_id": extra.get("tenant_id"),
                "client id": connection.login,
                "client secret": connection.password,
            }
            missing += [name for name, value in given.items() if not value]
        if missing:
            raise UserError(
                f"Connection '{conn_id}' lacks {', '.join(missing)}: fill it in under Admin → Connections (type Azure "
                "Machine Learning)."
            )
        return cls(
            conn_id=conn_id,
            subscription_id=extra["subscription_id"],
            resource_group=extra["resource_group"],
            name=extra["workspace"],
            authentication=authentication,
            tenant_id=extra.get("tenant_id") or "",
            client_id=connection.login or "",
            client_secret=connection.password or "",
            cloud_name=extra.get("cloud") or DEFAULT_CLOUD,
        )

    @property
    def cloud(self) -> Cloud:
        """The cloud that the workspace is in."""
        return find_cloud(self.cloud_name)

    @property
    def arm_id(self) -> str:
        """The workspace's ARM id."""
        return (
            f"/subscriptions/{self.subscription_id}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.name}"
        )

    def studio_url(self, endpoint: str) -> str | None:
        """Return the endpoint's page in AzureML's studio, if the cloud has one."""
        portal = self.cloud.portal
        return f"{portal}/endpoints/realtime/{endpoint}/detail?wsid={self.arm_id}" if portal else None

    def credential(self) -> TokenCredential:
        """Return a credential of azure-identity, which keeps its tokens and renews them in time."""
        # Each request with all its headers would be a page in a task's log.
        logging.getLogger("azure").setLevel(logging.WARNING)
        import azure.identity

        cloud = self.cloud
        # MSAL would ask Microsoft's own login whether it knows the authority, which an air-gapped cloud cannot reach.
        options: dict[str, Any] = {
            "authority": cloud.authority.removeprefix("https://"),
            "disable_instance_discovery": not cloud.public,
        }
        if self.authentication == "service_principal":
            return azure.identity.ClientSecretCredential(self.tenant_id, self.client_id, self.client_secret, **options)
        if self.authentication == "managed_identity":
            return azure.identity.ManagedIdentityCredential(client_id=self.client_id or None)
        try:
            return azure.identity.WorkloadIdentityCredential(
                tenant_id=self.tenant_id or None, client_id=self.client_id or None, **options
            )
        except ValueError:
            variables = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")
            absent = [name for name in variables if name not in os.environ]
            raise UserError(
                f"Connection '{self.conn_id}' uses workload identity, but this process has no {', '.join(absent)}: "
                "have the pod labelled azure.workload.identity/use, or use another authentication."
            ) from None
