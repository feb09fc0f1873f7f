"""The Azure clouds: where each has its resource manager, its login and its AzureML.

The public ones are named here; any other (Azure Stack, an air-gapped cloud) is looked up where
`ARM_CLOUD_METADATA_URL` says, as azure-ai-ml does.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache

from slipway.errors import Unavailable, UserError

__all__ = ["DEFAULT_CLOUD", "METADATA_VARIABLE", "Cloud", "find_cloud"]

DEFAULT_CLOUD = "AzureCloud"
METADATA_VARIABLE = "ARM_CLOUD_METADATA_URL"


@dataclass(frozen=True)
class Cloud:
    """One Azure cloud.

    :param name: as azure-ai-ml and the Azure CLI call it.
    :param resource_manager: URL of Azure Resource Manager, without a slash at its end.
    :param authority: URL of Microsoft Entra ID.
    :param machine_learning: the resource that tokens of endpoints with `aad_token` are for.
    :param portal: URL of AzureML's studio; empty where there is none.
    :param public: whether Microsoft's own login knows the cloud.
    """

    name: str
    resource_manager: str
    authority: str
    machine_learning: str = "https://ml.azure.com"
    portal: str = ""
    public: bool = False


_PUBLIC = {
    cloud.name: cloud
    for cloud in (
        Cloud(
            DEFAULT_CLOUD, "https://management.azure.com", "https://login.microsoftonline.com",
            portal="https://ml.azure.com", public=True,
        ),
        Cloud(
            "AzureUSGovernment", "https://management.usgovcloudapi.net", "https://login.microsoftonline.us",
            "https://ml.azure.us", portal="https://ml.azure.us", public=True,
        ),
        Cloud(
            "AzureChinaCloud", "https://management.chinacloudapi.cn", "https://login.chinacloudapi.cn",
            "https://ml.azure.cn", portal="https://studio.ml.azure.cn", public=True,
        ),
    )
}  # fmt: skip


def find_cloud(name: str) -> Cloud:
    """Return the cloud of this name.

    :raises UserError: if there is none.
    :raises Unavailable: if the metadata cannot be read.
    """
    return _PUBLIC.get(name) or _private(name, os.environ.get(METADATA_VARIABLE, ""))


@cache
def _private(name: str, metadata_url: str) -> Cloud:
    if not metadata_url:
        raise UserError(
            f"Azure cloud '{name}' is not known: use one of {', '.join(_PUBLIC)}, or set {METADATA_VARIABLE} to where "
            "your own cloud describes itself."
        )
    import httpx

    try:
        response = httpx.get(metadata_url, timeout=30)
        response.raise_for_status()
        described = response.json()
        clouds = described if isinstance(described, list) else [described]
        found = next((cloud for cloud in clouds if cloud["name"] == name), None)
        if found is None:
            raise UserError(f"The metadata at {metadata_url} do not describe an Azure cloud '{name}'.")
        return Cloud(name, found["resourceManager"].rstrip("/"), found["authentication"]["loginEndpoint"].rstrip("/"))
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as e:
        raise Unavailable(
            f"The description of Azure cloud '{name}' cannot be read at {metadata_url} ({type(e).__name__}): check "
            f"{METADATA_VARIABLE}, and that the certificate is trusted."
        ) from None
