"""All endpoints of the host: creating, switching and removing deployments, one step at a time for each endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine
from pathlib import Path
from typing import Any

from .deployment import Deployment, Host
from .endpoint import Endpoint
from .errors import HostError, conflict, not_found, unavailable
from .frontdoor.routing import Routes
from .records import PENDING, DeploymentRecord, EndpointRecord, Spec
from .store import deployment_folder

_LEASE_TICK_SECONDS = 5.0


class Endpoints:
    """What the admin API calls."""

    def __init__(self, host: Host, routes: Routes) -> None:
        self._host = host
        self._routes = routes
        self._endpoints: dict[str, Endpoint] = {}
        self._background: set[asyncio.Task[None]] = set()

    def restore(self) -> None:
        """Bring back what ran when the host last ran: live deployments, and candidates in the making."""
        for record in self._host.store.load():
            endpoint = self._endpoints[record.name] = Endpoint(self._host, self._routes, record)
            endpoint.route()
            for deployment in endpoint.deployments.values():
                # The host may have been killed between a switch and what follows from it.
                if deployment.record.id == record.live:
                    deployment.set_state("live")
                    deployment.begin()
                elif deployment.state in {"live", "draining", "stopped"}:
                    deployment.set_state("stopped")
                elif not deployment.failed:
                    deployment.begin()
        self._later(self._expire())

    def views(self) -> list[dict[str, Any]]:
        """All endpoints, by name."""
        return [endpoint.view() for _, endpoint in sorted(self._endpoints.items()) if endpoint.deployments]

    def get(self, name: str) -> Endpoint:
        """The endpoint `name`.

        Raises:
            HostError: 404.
        """
        endpoint = self._endpoints.get(name)
        if endpoint is None or not endpoint.record.deployments:
            raise not_found(f"There is no endpoint '{name}' on this host; deploy it, or check its name.")
        return endpoint

    def deployment(self, name: str, deployment: str) -> Deployment:
        """A deployment of an endpoint.

        Raises:
            HostError: 404.
        """
        found = self.get(name).deployments.get(deployment)
        if found is None:
            raise not_found(f"Endpoint '{name}' has no deployment '{deployment}'; check its id.")
        return found

    @contextlib.asynccontextmanager
    async def _changing(self, name: str) -> AsyncIterator[Endpoint]:
        """The endpoint, nobody else changing it meanwhile; one that is new, or left without deployments, is dropped."""
        while True:
            endpoint = self._endpoints.setdefault(name, Endpoint(self._host, self._routes, EndpointRecord(name=name)))
            async with endpoint.lock:
                if self._endpoints.get(name) is not endpoint:
                    continue  # dropped by whoever held the lock before
                try:
                    yield endpoint
                finally:
                    if not endpoint.record.deployments:
                        del self._endpoints[name]
                return

    async def put(self, name: str, deployment: str, spec: Spec) -> tuple[Deployment, bool]:
        """Create or adopt a deployment; whether it was set going by this call.

        Raises:
            HostError: 409, if another one is in the making or the id stands for another spec.
        """
        async with self._changing(name) as endpoint:
            found = endpoint.deployments.get(deployment)
            if found is not None and found.record.spec != spec:
                raise conflict(
                    f"Deployment '{deployment}' of endpoint '{name}' exists with another spec; use a new id.",
                    "RESOURCE_ALREADY_EXISTS",
                )
            if found is not None:
                found.record.leased_at = time.time()
                if found.state not in {"failed", "stopped", "draining"} or found.cancel_drain():
                    return found, False
            for other in endpoint.deployments.values():
                if other.state in PENDING:
                    raise conflict(
                        f"Deployment '{other.record.id}' of endpoint '{name}' is in the making; "
                        "wait for it, or delete it."
                    )
            if found is not None:
                await found.retired()
            async with endpoint.saving():
                found = endpoint.add(DeploymentRecord(id=deployment, spec=spec))
            found.begin()
            endpoint.route()
            return found, True

    async def switch(self, name: str, deployment: str) -> Endpoint:
        """Make a deployment live; the one before drains. `previous` is started again first if need be.

        Raises:
            HostError: 404; 409 if the deployment is not ready; 503 if `previous` does not come up again.
        """
        async with self._changing(name) as endpoint:
            target = self.deployment(name, deployment)
            record = endpoint.record
            if record.live == deployment:
                return endpoint
            if target.state in {"draining", "stopped"} and not target.cancel_drain():
                await self._revive(target)
            if target.state != "ready":
                reason = f": {target.record.error}" if target.record.error else "; wait until it is ready"
                raise conflict(f"Deployment '{deployment}' of endpoint '{name}' is {target.state}{reason}")
            before = endpoint.deployments.get(record.live or "")
            oldest = endpoint.deployments.get(record.previous or "")
            # On disk first: after a crash between the two, what the client was told is what runs.
            async with endpoint.saving():
                if oldest is not None and oldest is not target:
                    endpoint.forget(oldest.record.id)
                endpoint.make_live(deployment)
            target.set_state("live")
            endpoint.route()
            for leaving in (before, oldest):
                if leaving is not None and leaving is not target:
                    leaving.drain()
            return endpoint

    async def _revive(self, target: Deployment) -> None:
        await target.retired()
        target.begin()
        config = self._host.config
        await target.settled(config.environment_seconds + config.start_seconds)
        if target.failed:
            raise unavailable(f"Deployment '{target.record.id}' did not come up again: {target.record.error}", 5)

    async def delete_deployment(self, name: str, deployment: str) -> None:
        """Drain and remove a deployment that is not live.

        Raises:
            HostError: 404; 409 for the live one.
        """
        async with self._changing(name) as endpoint:
            gone = self.deployment(name, deployment)
            if endpoint.record.live == deployment:
                raise conflict(
                    f"Deployment '{deployment}' is live on endpoint '{name}'; "
                    "switch to another first, or delete the endpoint."
                )
            async with endpoint.saving():
                endpoint.forget(deployment)
            endpoint.route()
            gone.drain()
        await gone.retired()

    async def delete(self, name: str) -> None:
        """Remove an endpoint: no new requests, drain, stop.

        Raises:
            HostError: 404.
        """
        async with self._changing(name) as endpoint:
            self.get(name)
            async with endpoint.saving():
                endpoint.record.live = None
                gone = [endpoint.forget(deployment) for deployment in list(endpoint.deployments)]
            endpoint.route()
            for deployment in gone:
                deployment.drain()
        await asyncio.gather(*(deployment.retired() for deployment in gone))

    def used(self) -> tuple[set[str], set[str], set[str]]:
        """What some deployment needs: lock digests, artifact URIs, and the names of deployments' own folders."""
        pairs = [(e.record.name, d) for e in self._endpoints.values() for d in e.record.deployments.values()]
        return (
            {found.spec.lock_digest for _, found in pairs},
            {found.spec.artifact_uri for _, found in pairs},
            {deployment_folder(Path(), name, found.id).name for name, found in pairs},
        )

    async def stop(self) -> None:
        """Stop all servers, at the host's own end; the records stay as they are."""
        for task in list(self._background):
            task.cancel()
        deployments = [d for endpoint in self._endpoints.values() for d in endpoint.deployments.values()]
        await asyncio.gather(*(deployment.stop() for deployment in deployments))

    async def _expire(self) -> None:
        """Remove the candidates that nobody made live within the lease; a `previous` only stops again."""
        lease = self._host.config.lease_seconds
        while True:
            await asyncio.sleep(min(_LEASE_TICK_SECONDS, lease / 4))
            for name, endpoint in list(self._endpoints.items()):
                for deployment in list(endpoint.deployments.values()):
                    record = deployment.record
                    if record.state in {"live", "draining", "stopped"} or time.time() - record.leased_at < lease:
                        continue
                    if record.id == endpoint.record.previous:
                        deployment.drain()
                    else:
                        self._later(self._expired(name, record.id))

    async def _expired(self, name: str, deployment: str) -> None:
        # Made live or removed at the last moment: then there is nothing to do.
        with contextlib.suppress(HostError):
            await self.delete_deployment(name, deployment)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
