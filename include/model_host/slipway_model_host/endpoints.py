"""All endpoints of the host: creating, switching and removing deployments, one step at a time for each endpoint."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import Any

from .deployment import Deployment, Host
from .errors import conflict, not_found, unavailable
from .frontdoor.routing import Route, Routes
from .records import PENDING, DeploymentRecord, EndpointRecord, Spec

_LEASE_TICK_SECONDS = 5.0


class Endpoint:
    """One endpoint; `lock` is held for each change, so that two clients' changes do not mix."""

    def __init__(self, host: Host, routes: Routes, record: EndpointRecord) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self._host = host
        self._routes = routes
        self.deployments = {name: Deployment(host, record, found) for name, found in record.deployments.items()}

    def route(self) -> None:
        """Let the front door know the present deployments; one assignment each, so that no request sees a part."""
        record = self.record
        if not record.deployments:
            self._routes.pop(record.name.encode(), None)
            return
        route = self._routes.setdefault(record.name.encode(), Route())
        route.live = self.deployments[record.live].upstream if record.live is not None else None
        route.upstreams = {name.encode(): found.upstream for name, found in self.deployments.items()}

    def add(self, record: DeploymentRecord) -> Deployment:
        """Add a deployment that has just been asked for."""
        if record.spec.auth == "token" and self.record.token is None:
            self.record.token = secrets.token_urlsafe(32)
        self.record.deployments[record.id] = record
        deployment = self.deployments[record.id] = Deployment(self._host, self.record, record)
        return deployment

    def forget(self, name: str) -> Deployment:
        """Take a deployment out of the record; it still runs."""
        deployment = self.deployments.pop(name)
        del self.record.deployments[name]
        if self.record.previous == name:
            self.record.previous = None
        return deployment

    async def save(self) -> None:
        """Bring the record to disk; an endpoint with no deployment is none."""
        if self.record.deployments:
            await self._host.store.save(self.record)
        else:
            await self._host.store.remove(self.record.name)

    def view(self) -> dict[str, Any]:
        """The endpoint as the admin API shows it."""
        record = self.record
        shown = record.live or next(reversed(record.deployments), None)
        return {
            "name": record.name,
            "url": f"{self._host.public_url}/endpoints/{record.name}",
            "live": record.live,
            "previous": record.previous,
            "auth": record.deployments[shown].spec.auth if shown is not None else "none",
            "deployments": [deployment.view() for deployment in self.deployments.values()],
        }


class Endpoints:
    """What the admin API calls."""

    def __init__(self, host: Host, routes: Routes) -> None:
        self._host = host
        self._routes = routes
        self._endpoints: dict[str, Endpoint] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._leases: asyncio.Task[None] | None = None

    def restore(self) -> None:
        """Bring back what ran when the host last ran: live endpoints, and candidates in the making."""
        for record in self._host.store.load():
            endpoint = self._endpoints[record.name] = Endpoint(self._host, self._routes, record)
            endpoint.route()
            for deployment in endpoint.deployments.values():
                if deployment.state in {"draining", "stopped"}:
                    deployment.record.state = "stopped"
                elif deployment.state != "failed":
                    deployment.begin()
        self._leases = asyncio.create_task(self._expire())

    def views(self) -> list[dict[str, Any]]:
        """All endpoints, by name."""
        return [self._endpoints[name].view() for name in sorted(self._endpoints)]

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

    async def put(self, name: str, deployment: str, spec: Spec) -> tuple[Deployment, bool]:
        """Create or adopt a deployment; whether it was set going by this call.

        Raises:
            HostError: 409, if another one is in the making or the id stands for another spec.
        """
        endpoint = self._endpoints.get(name)
        if endpoint is None:
            record = EndpointRecord(name=name)
            endpoint = self._endpoints[name] = Endpoint(self._host, self._routes, record)
        async with endpoint.lock:
            found = endpoint.deployments.get(deployment)
            if found is not None and found.record.spec != spec:
                raise conflict(
                    f"Deployment '{deployment}' of endpoint '{name}' exists with another spec; use a new id.",
                    "RESOURCE_ALREADY_EXISTS",
                )
            if found is not None and (found.state not in {"failed", "stopped", "draining"} or found.cancel_drain()):
                found.record.leased_at = time.time()
                return found, False
            for other in endpoint.deployments.values():
                if other.state in PENDING:
                    raise conflict(
                        f"Deployment '{other.record.id}' of endpoint '{name}' is in the making; wait for it or delete it."
                    )
            if found is None:
                found = endpoint.add(DeploymentRecord(id=deployment, spec=spec))
            else:
                await found.drained()
                found.record.leased_at = time.time()
            found.begin()
            endpoint.route()
            self._endpoints[name] = endpoint
            await endpoint.save()
            return found, True

    async def switch(self, name: str, deployment: str) -> Endpoint:
        """Make a deployment live; the one before drains. `previous` is started again first if need be.

        Raises:
            HostError: 404; 409 if the deployment is not ready; 503 if `previous` does not come up again.
        """
        endpoint = self.get(name)
        async with endpoint.lock:
            target = self.deployment(name, deployment)
            record = endpoint.record
            if record.live == deployment:
                return endpoint
            if target.state in {"draining", "stopped"} and not target.cancel_drain():
                await target.drained()
                target.begin()
                await target.settled(self._host.config.start_seconds + self._host.config.environment_seconds)
                if target.failed:
                    raise unavailable(f"Deployment '{deployment}' did not come up again: {target.record.error}", 5)
            if target.state != "ready":
                reason = f": {target.record.error}" if target.record.error else "; wait until it is ready"
                raise conflict(f"Deployment '{deployment}' of endpoint '{name}' is {target.state}{reason}")
            before = endpoint.deployments.get(record.live) if record.live is not None else None
            oldest = record.previous if record.previous not in {None, deployment} else None
            record.live, record.previous = deployment, record.live
            target.set_state("live")
            leftover = endpoint.forget(oldest) if oldest is not None else None
            if before is not None:
                before.record.state = "draining"
            # On disk first: after a crash between the two, what the client was told is what runs.
            await endpoint.save()
            endpoint.route()
            if before is not None:
                before.drain()
            if leftover is not None:
                self._later(leftover.stop(self._host.config.drain_seconds))
            return endpoint

    async def delete_deployment(self, name: str, deployment: str) -> None:
        """Drain and remove a deployment that is not live.

        Raises:
            HostError: 404; 409 for the live one.
        """
        endpoint = self.get(name)
        async with endpoint.lock:
            self.deployment(name, deployment)
            if endpoint.record.live == deployment:
                raise conflict(
                    f"Deployment '{deployment}' is live on endpoint '{name}'; switch to another, or delete the endpoint."
                )
            gone = endpoint.forget(deployment)
            endpoint.route()
            await endpoint.save()
            self._drop_if_empty(endpoint)
        await gone.stop(self._host.config.drain_seconds)
        await gone.drained()

    async def delete(self, name: str) -> None:
        """Remove an endpoint: no new requests, drain, stop.

        Raises:
            HostError: 404.
        """
        endpoint = self.get(name)
        async with endpoint.lock:
            self.get(name)
            endpoint.record.live = None
            gone = [endpoint.forget(deployment) for deployment in list(endpoint.deployments)]
            endpoint.route()
            await endpoint.save()
            self._drop_if_empty(endpoint)
        await asyncio.gather(*(found.stop(self._host.config.drain_seconds) for found in gone))
        await asyncio.gather(*(found.drained() for found in gone))

    def _drop_if_empty(self, endpoint: Endpoint) -> None:
        if not endpoint.record.deployments and self._endpoints.get(endpoint.record.name) is endpoint:
            del self._endpoints[endpoint.record.name]

    def used(self) -> tuple[set[str], set[str]]:
        """The lock digests and artifact URIs that some deployment needs."""
        specs = [d.spec for e in self._endpoints.values() for d in e.record.deployments.values()]
        return {spec.lock_digest for spec in specs}, {spec.artifact_uri for spec in specs}

    async def stop(self) -> None:
        """Stop all servers, at the host's own end; the records stay as they are."""
        if self._leases is not None:
            self._leases.cancel()
        deployments = [d for endpoint in self._endpoints.values() for d in endpoint.deployments.values()]
        await asyncio.gather(*(deployment.stop(0) for deployment in deployments))
        for task in list(self._background):
            task.cancel()

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(min(_LEASE_TICK_SECONDS, self._host.config.lease_seconds / 4))
            limit = time.time() - self._host.config.lease_seconds
            for name, endpoint in list(self._endpoints.items()):
                for deployment in list(endpoint.deployments.values()):
                    record = deployment.record
                    if record.state in {"live", "draining", "stopped"} or record.leased_at > limit:
                        continue
                    if record.id == endpoint.record.previous:
                        deployment.drain()
                    else:
                        self._later(self.delete_deployment(name, record.id))

    def _later(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
