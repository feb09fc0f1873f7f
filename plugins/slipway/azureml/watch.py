"""Asking Azure how a resource stands without blocking: what the triggers in one triggerer share.

Hundreds of waits have one token and one connection pool for each Airflow connection. azure-ai-ml is not imported.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from slipway.azureml.arm import API_VERSION
from slipway.azureml.failures import explained
from slipway.azureml.workspace import Workspace
from slipway.errors import NotFound, SlipwayError, Unavailable, UserError

if TYPE_CHECKING:
    import httpx
    from azure.core.credentials import TokenCredential

__all__ = ["Watcher", "watcher"]

_watchers: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Workspace, Watcher]] = WeakKeyDictionary()


def watcher(workspace: Workspace) -> Watcher:
    """Return the running event loop's watcher of a workspace."""
    return _watchers.setdefault(asyncio.get_running_loop(), {}).setdefault(workspace, Watcher(workspace))


class Watcher:
    """Reads resources of one workspace, for many who wait."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self._client: httpx.AsyncClient | None = None
        self._credential: TokenCredential | None = None
        self._lock = asyncio.Lock()

    async def get(self, path: str) -> dict[str, Any] | None:
        """Return a resource below the workspace, or what a whole URL of Azure's answers; None if it is not there.

        :raises Unavailable: if Azure does not answer, throttles or is broken, with `retry_after` seconds in `code`.
        :raises UserError: if it refuses.
        """
        import httpx

        try:
            for fresh in (False, True):
                response = await self._request(path, fresh=fresh)
                if response.status_code != 401:
                    break
        except httpx.TransportError as e:
            raise Unavailable(f"Azure does not answer ({type(e).__name__}).") from None
        if response.status_code == 404:
            return None
        if response.is_success:
            return dict(response.json())
        raise _failure(response, self.workspace.conn_id)

    async def _request(self, path: str, *, fresh: bool) -> httpx.Response:
        manager = self.workspace.cloud.resource_manager
        token = await self._token(f"{manager}/.default", fresh=fresh)
        url = path if path.startswith("https://") else f"{manager}{self.workspace.arm_id}{path}"
        params = None if "api-version=" in url else {"api-version": API_VERSION}
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_connections=16))
        return await self._client.get(url, params=params, headers={"Authorization": f"Bearer {token}"})

    async def _token(self, scope: str, *, fresh: bool) -> str:
        async with self._lock:  # one sign-in for all who wait
            if self._credential is None or fresh:
                self._credential = await asyncio.to_thread(self.workspace.credential)
            with explained(self.workspace.conn_id):
                return (await asyncio.to_thread(self._credential.get_token, scope)).token


def _failure(response: httpx.Response, conn_id: str) -> SlipwayError:
    status = response.status_code
    try:
        error = response.json()["error"]
        said = f"{error['code']}: {error['message']}"
    except (ValueError, KeyError, TypeError):
        said = f"HTTP {status}"
    if status in {401, 408, 429} or status >= 500:
        return Unavailable(f"Azure cannot answer now ({said}).", response.headers.get("Retry-After", ""))
    if status == 403:
        return UserError(
            f"The identity of connection '{conn_id}' may not see this ({said}): give it the role 'AzureML Data "
            "Scientist' on the workspace."
        )
    return NotFound(said) if status == 404 else UserError(f"Azure refuses this ({said}).")
