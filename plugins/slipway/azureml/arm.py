"""Azure Resource Manager's REST API for one workspace, over azure-core's pipeline and azure-identity.

azure-ai-ml makes what has many fields (assets, deployments). Looking, polling, shifting traffic and deleting are single
requests, for which its import of some seconds would cost more than the work.

Source of the protocol: https://learn.microsoft.com/rest/api/azureml/online-endpoints, api-version 2025-12-01, which is
the one that azure-ai-ml 1.35 is generated from.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from slipway.azureml.failures import explained
from slipway.azureml.workspace import Workspace
from slipway.errors import NotFound

if TYPE_CHECKING:
    from azure.core.rest import HttpResponse
    from azure.mgmt.core import ARMPipelineClient

__all__ = ["API_VERSION", "PENDING", "Arm", "state_of"]

API_VERSION = "2025-12-01"
PENDING = frozenset({"Creating", "Updating", "Scaling", "Deleting"})

_OPERATION = "Azure-AsyncOperation"
# A change of traffic can be over at once, another one takes minutes.
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 2.0
_RETRIES: dict[str, Any] = {
    "retry_total": 4,
    "retry_backoff_factor": 0.5,
    "retry_backoff_max": 10,
    # Its POSTs (listKeys, getLogs) only read.
    "retry_on_methods": ["HEAD", "GET", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "POST"],
}


class Arm:
    """A client of one workspace.

    Passing faults (throttling, 5xx, broken connections) are retried here for some seconds, as `Retry-After` asks.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._client: ARMPipelineClient[Any, Any] | None = None

    def get(self, path: str = "") -> dict[str, Any] | None:
        """Return a resource; None if it is not there.

        :param path: below the workspace, or a whole ARM id.
        """
        try:
            response = self._send("GET", path)
        except NotFound:
            return None
        return dict(response.json())

    def list(self, path: str) -> list[dict[str, Any]]:
        """Return all resources of a kind; none if what they belong to is not there."""
        found: list[dict[str, Any]] = []
        page = self.get(path)
        while page is not None:
            found += page["value"]
            page = self.get(page["nextLink"]) if page.get("nextLink") else None
        return found

    def put(self, path: str, body: dict[str, Any]) -> str | None:
        """Create or update a resource; return the URL that tells how the operation stands."""
        return self._send("PUT", path, body).headers.get(_OPERATION)

    def patch(self, path: str, body: dict[str, Any]) -> None:
        """Change some of a resource; its state tells how that stands."""
        self._send("PATCH", path, body)

    def post(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """Call an action and return its answer."""
        response = self._send("POST", path, body)
        return response.json() if response.content else None

    def delete(self, path: str) -> None:
        """Ask for a resource's removal; it is well if it is not there."""
        try:
            self._send("DELETE", path)
        except NotFound:
            return

    def operation_error(self, url: str | None) -> dict[str, Any] | None:
        """Return `{"code", "message"}` of a failed operation, where that is known."""
        status = self.get(url) if url else None
        return (status or {}).get("error")

    def settle(self, path: str, patience: float) -> dict[str, Any] | None:
        """Return a resource when no operation on it is under way any more, or as it is after `patience` seconds.

        :return: None if it is not there (any more).
        """
        deadline = time.monotonic() + patience
        pause = _FIRST_PAUSE_SECONDS
        while True:
            found = self.get(path)
            if state_of(found) not in PENDING or time.monotonic() > deadline:
                return found
            time.sleep(pause)
            pause = min(pause * 1.5, _LONGEST_PAUSE_SECONDS)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> HttpResponse:
        from azure.core.exceptions import HttpResponseError
        from azure.core.rest import HttpRequest
        from azure.mgmt.core.exceptions import ARMErrorFormat

        url = path if path.startswith("https://") else self._url(path)
        params = {} if "api-version=" in url else {"api-version": API_VERSION}
        with explained(self.workspace.conn_id):
            for fresh in (False, True):
                if self._client is None or fresh:
                    # A token that Azure no longer takes stays in its credential until it expires there: a new
                    # credential gets a new one.
                    self._client = self._new_client()
                response: HttpResponse = self._client.send_request(HttpRequest(method, url, params=params, json=body))
                if response.status_code != 401:
                    break
            if response.status_code >= 400:
                raise HttpResponseError(response=response, error_format=ARMErrorFormat)
            return response

    def _url(self, path: str) -> str:
        workspace = self.workspace
        below = "" if path.startswith("/subscriptions/") else workspace.arm_id
        return f"{workspace.cloud.resource_manager}{below}{path}"

    def _new_client(self) -> ARMPipelineClient[Any, Any]:
        from azure.core.pipeline import policies
        from azure.mgmt.core import ARMPipelineClient
        from azure.mgmt.core.policies import ARMChallengeAuthenticationPolicy

        manager = self.workspace.cloud.resource_manager
        return ARMPipelineClient(
            manager,
            policies=[
                policies.RequestIdPolicy(),
                policies.HeadersPolicy({"Accept": "application/json"}),
                policies.UserAgentPolicy("slipway"),
                policies.RetryPolicy(**_RETRIES),
                ARMChallengeAuthenticationPolicy(self.workspace.credential(), f"{manager}/.default"),
            ],
        )


def state_of(found: dict[str, Any] | None) -> str | None:
    """Return a resource's provisioning state; None if it is not there."""
    return None if found is None else str(found["properties"].get("provisioningState") or "Succeeded")
