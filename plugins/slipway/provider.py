"""What Slipway adds to Airflow as a provider: its connection types, with their forms.

Airflow finds this by the entry point in `plugins/slipway_provider-*.dist-info`, and draws the form from it without
importing a hook. It looks before it adds the plugins folder to its path, so `PYTHONPATH` must name that folder.
"""

from __future__ import annotations

from typing import Any

__all__ = ["get_provider_info"]


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata, as Airflow's `provider_info.schema.json` describes it."""
    return {
        "package-name": "slipway-provider",
        "name": "Slipway",
        "description": "Connections of the model-serving pipeline.",
        "connection-types": [
            {
                "connection-type": "azureml",
                "hook-class-name": "slipway.hooks.azureml.AzureMLHook",
                "hook-name": "Azure Machine Learning",
                "ui-field-behaviour": {
                    "hidden-fields": ["schema", "port", "host"],
                    "relabeling": {"login": "Client ID", "password": "Client secret"},
                    "placeholders": {
                        "login": "of the service principal, or of a user-assigned managed identity",
                        "password": "of the service principal alone",
                    },
                },
                "conn-fields": {
                    "tenant_id": _text("Tenant ID", "Directory of the service principal."),
                    "subscription_id": _text("Subscription ID"),
                    "resource_group": _text("Resource group"),
                    "workspace": _text("Workspace", "Name of the Azure Machine Learning workspace."),
                    "authentication": _text(
                        "Authentication",
                        "service_principal (client ID and secret), managed_identity (of this machine), or "
                        "workload_identity (of this pod).",
                        enum=["service_principal", "managed_identity", "workload_identity", None],
                    ),
                    "cloud": _text(
                        "Cloud",
                        "AzureCloud (the default), AzureUSGovernment, AzureChinaCloud, or a private one's name.",
                    ),
                },
            }
        ],
    }


def _text(label: str, description: str | None = None, **schema: Any) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], **schema}}
