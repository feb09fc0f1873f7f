"""The registry that a docker connection names."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from airflow.sdk import BaseHook

from slipway.errors import UserError
from slipway.hooks.registry_v2 import Login

if TYPE_CHECKING:
    from airflow.sdk import Connection

__all__ = ["DockerRegistryHook"]


class DockerRegistryHook(BaseHook):
    """Any registry that speaks the distribution API.

    :param conn_id: a docker connection: host (and port) of the registry, login and password if it asks for them.
        HTTPS is spoken, but to this machine; `schema` or the host's own `http://` says otherwise.
    """

    def __init__(self, conn_id: str) -> None:
        super().__init__()
        self.conn_id = conn_id

    @cached_property
    def _connection(self) -> Connection:
        from airflow.sdk.exceptions import AirflowNotFoundException

        try:
            return self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            raise UserError(
                f"Connection '{self.conn_id}' does not exist: create it under Admin → Connections (type Docker, the "
                "registry's address as host), or name 'ecr' or 'acr' as registry."
            ) from None

    @cached_property
    def url(self) -> str:
        """Root of the registry's API."""
        connection = self._connection
        host = (connection.host or "").rstrip("/")
        scheme = connection.schema or ""
        if "://" in host:
            scheme, _, host = host.partition("://")
        if not host or scheme not in {"", "http", "https"} or "/" in host:
            raise UserError(
                f"Connection '{self.conn_id}' names no registry: give its host and port alone, such as "
                "'registry.example.com:5000'; the path of an image goes into repository."
            )
        if connection.port and urlsplit(f"//{host}").port is None:
            host = f"{host}:{connection.port}"
        name = urlsplit(f"//{host}").hostname or ""
        # As engines do: TLS is asked of everybody but this machine.
        local = name == "localhost" or name.startswith("127.") or name == "::1"
        return f"{scheme or ('http' if local else 'https')}://{host}"

    @property
    def login(self) -> Login | None:
        """The connection's login."""
        connection = self._connection
        return Login(connection.login, connection.password or "") if connection.login else None

    def prepare(self, repository: str) -> None:
        """Do nothing: a registry makes a repository at the first push."""
