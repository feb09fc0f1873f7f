"""One endpoint: its deployments, its record on disk, its route at the front door."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

from .deployment import Deployment, Host
from .frontdoor.routing import Route, Routes
from .records import DeploymentRecord, EndpointRecord


class Endpoint:
    """`lock` is held for each change, so that two clients' changes do not mix."""

    def __init__(self, host: Host, routes: Routes, record: EndpointRecord) -> None:
        self.record = record
        self.lock = asyncio.Lock()
        self._host = host
        self._routes = routes
        self.deployments: dict[str, Deployment] = {
            name: Deployment(host, record, found) for name, found in record.deployments.items()
        }

    def route(self) -> None:
        """Let the front door know the present deployments; no request can see a part of this."""
        name, live = self.record.name.encode(), self.record.live
        if not self.deployments:
            self._routes.pop(name, None)
            return
        route = self._routes.setdefault(name, Route())
        route.live = self.deployments[live].upstream if live is not None else None
        route.upstreams = {found.encode(): deployment.upstream for found, deployment in self.deployments.items()}

    def add(self, record: DeploymentRecord) -> Deployment:
        """Add a deployment that has just been asked for."""
        if record.spec.auth == "token" and self.record.token is None:
            self.record.token = secrets.token_urlsafe(32)
        self.record.deployments[record.id] = record
        deployment = self.deployments[record.id] = Deployment(self._host, self.record, record)
        return deployment

    def forget(self, name: str) -> Deployment:
        """Take a deployment out of the record; its server runs on until it is drained."""
        if self.record.previous == name:
            self.record.previous = None
        del self.record.deployments[name]
        return self.deployments.pop(name)

    def make_live(self, name: str) -> None:
        """Let requests go to a deployment from the next `route` on; `previous` is the one before."""
        self.record.live, self.record.previous = name, self.record.live

    @contextlib.asynccontextmanager
    async def saving(self) -> AsyncIterator[None]:
        """Bring the changes made in this block to disk; undo them if that fails. No deployment left: no endpoint."""
        record = self.record
        before = record.live, record.previous, record.token, dict(record.deployments), dict(self.deployments)
        try:
            yield
            if record.deployments:
                await self._host.store.save(record)
            else:
                await self._host.store.remove(record.name)
        except BaseException:
            record.live, record.previous, record.token, record.deployments, self.deployments = before
            raise

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
