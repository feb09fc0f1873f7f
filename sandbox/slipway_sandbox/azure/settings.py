"""What the sandbox is called and where it listens: the names that a client is configured with."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["CLOUD", "LOCATION", "Settings"]

CLOUD = "SlipwaySandbox"
LOCATION = "sandboxregion"
STORAGE_SUFFIX = "core.sandbox"
STORAGE_ACCOUNT = "slipway"
CONTAINER = "azureml-blobstore"


@dataclass(frozen=True)
class Settings:
    """One sandbox.

    :param home: folder of its certificates, blobs and fetched models.
    :param port: where ARM, login and scoring listen, over HTTPS.
    :param blob_port: where Azurite listens, over HTTPS.
    :param pace: seconds that each long-running operation takes at least.
    :param cores: the subscription's quota.
    :param containers: serve from the deployments' images where a Docker Engine is there; else from processes.
    :param environments_dir: folder of the models' virtual environments, for processes.
    """

    home: Path
    port: int
    blob_port: int
    pace: float = 1.0
    cores: int = 64
    containers: bool = True
    environments_dir: Path | None = None
    tenant: str = "00000000-0000-4000-8000-00000000000a"
    subscription: str = "00000000-0000-4000-8000-00000000000b"
    client_id: str = "00000000-0000-4000-8000-00000000000c"
    client_secret: str = "sandbox-secret"  # noqa: S105  # opens nothing but this sandbox
    resource_group: str = "slipway"
    workspace: str = "slipway"
    account_key: str = field(default=base64.b64encode(b"sandbox" * 9).decode())

    @property
    def environments(self) -> Path:
        """Folder of the models' virtual environments."""
        return self.environments_dir or self.home / "environments"

    @property
    def url(self) -> str:
        """Root of ARM, of login and of scoring."""
        return f"https://127.0.0.1:{self.port}"

    @property
    def metadata_url(self) -> str:
        """What `ARM_CLOUD_METADATA_URL` is to be."""
        return f"{self.url}/metadata/endpoints?api-version=2022-09-01"

    @property
    def storage_account(self) -> str:
        """The workspace's storage account, with the address in its name.

        Azure's clients make `https://<account>.blob.<suffix>` of it, and no name below localhost resolves everywhere.
        """
        return f"127.0.0.1:{self.blob_port}/{STORAGE_ACCOUNT}"

    @property
    def blob_account(self) -> str:
        """The same account as Azurite knows it: the first part of the path."""
        return f"{STORAGE_ACCOUNT}.blob.{STORAGE_SUFFIX}"

    @property
    def blob_url(self) -> str:
        """Root of the workspace's blobs."""
        return f"https://127.0.0.1:{self.blob_port}/{self.blob_account}"

    @property
    def workspace_id(self) -> str:
        """The workspace's ARM id."""
        return (
            f"/subscriptions/{self.subscription}/resourceGroups/{self.resource_group}"
            f"/providers/Microsoft.MachineLearningServices/workspaces/{self.workspace}"
        )

    def environment(self, bundle: Path) -> dict[str, str]:
        """The variables that make a client use this sandbox."""
        return {
            "ARM_CLOUD_METADATA_URL": self.metadata_url,
            "REQUESTS_CA_BUNDLE": str(bundle),
            "SSL_CERT_FILE": str(bundle),
            "CURL_CA_BUNDLE": str(bundle),
        }

    def connection(self) -> str:
        """The Airflow connection `azureml_default` as JSON."""
        extra = {
            "tenant_id": self.tenant,
            "subscription_id": self.subscription,
            "resource_group": self.resource_group,
            "workspace": self.workspace,
            "cloud": CLOUD,
        }
        return json.dumps(
            {"conn_type": "azureml", "login": self.client_id, "password": self.client_secret, "extra": extra}
        )
