"""The targets that an endpoint can live on: what the shared steps of every deploy need of each."""

from __future__ import annotations

from typing import Any, Protocol

from slipway.errors import UserError

__all__ = ["EndpointHook", "endpoint_hook"]


class EndpointHook(Protocol):
    """What verifying an endpoint needs of its target's hook."""

    def invoke(self, endpoint: str, payload: dict[str, Any], *, deployment: str | None = None) -> Any:
        """Send a body to the endpoint, or to one of its deployments, and return the predictions."""
        ...


def endpoint_hook(target: str, conn_id: str) -> EndpointHook:
    """Return the hook of `target`.

    :raises UserError: if there is no such target.
    """
    if target == "mlflow":
        from slipway.hooks.model_host import ModelHostHook

        return ModelHostHook(conn_id)
    raise UserError(f"Target '{target}' does not exist: use 'mlflow'.")
