"""The door of one endpoint: every path leads to the live deployment."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

from ..errors import HostError, not_found, unavailable
from ..frontdoor.routing import Route, Upstream
from ..frontdoor.server import FrontDoor
from .ask import CONTROL

__all__ = ["Lone", "LoneDoor"]

_log = logging.getLogger(__name__)
_DEPLOYMENT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_CONNECTIONS = 256
"""Most connections to one scoring server; more requests wait for one."""
_LOOK_SECONDS = 0.1
_PING_SECONDS = 2.0


class LoneDoor(FrontDoor):
    """A front door with one endpoint, at the root."""

    def __init__(self, route: Route) -> None:
        super().__init__({})  # type: ignore[arg-type]  # no table: there is one route
        self._route = route

    def place(self, target: bytes) -> tuple[bytes, bytes]:
        """The whole target is the path; the absolute form is read as its path."""
        if not target.startswith(b"/"):
            _, found, rest = target.partition(b"://")
            target = b"/" + rest.partition(b"/")[2] if found else target
        return b"", target

    def prefix(self, endpoint: bytes) -> bytes:  # noqa: ARG002
        """Nothing: the endpoint is at the root."""
        return b""

    def pick(self, endpoint: bytes, deployment: bytes | None, target: bytes) -> Upstream:  # noqa: ARG002
        """The live upstream, or the one that `X-Slipway-Deployment` asks for.

        Raises:
            HostError: 404 for an unknown deployment, 503 if it is away or none is live.
        """
        upstream = self._route.live
        if deployment is not None:
            upstream = self._route.upstreams.get(deployment)
            if upstream is None:
                raise not_found("There is no such deployment; leave out X-Slipway-Deployment to reach the live one.")
        if upstream is None:
            raise unavailable("Nothing is live here yet; try again when the deploy has finished.", 1)
        if upstream.pool is None:
            raise upstream.away()
        return upstream

    def own(self, method: bytes, target: bytes) -> bytes | None:  # noqa: ARG002
        """Nothing: each path is the scoring server's."""
        return None


class Lone:
    """The folder of one endpoint: who is there, who is live, and who was before.

    Args:
        home: the folder that the containers share.
    """

    def __init__(self, home: Path) -> None:
        self.route = Route()
        self._home = home
        self._state = home / "state.json"
        state = json.loads(self._state.read_text()) if self._state.exists() else {}
        self._live: str | None = state.get("live")
        self._previous: str | None = state.get("previous")
        if self._live is not None:
            self.route.live = self._upstream(self._live)

    def status(self) -> dict[str, Any]:
        """`live`, `previous`, and of each deployment whether it is up and how many requests are in flight."""
        upstreams = self.route.upstreams.values()
        return {
            "live": self._live,
            "previous": self._previous,
            "deployments": {
                u.deployment.decode(): {"up": u.pool is not None, "in_flight": u.in_flight} for u in upstreams
            },
        }

    def set_live(self, deployment: str) -> None:
        """Let a deployment serve from the next request on, also after a restart.

        Raises:
            HostError: 409 if it is not up.
        """
        upstream = self.route.upstreams.get(_checked(deployment).encode())
        if upstream is None or upstream.pool is None:
            raise HostError(409, "RESOURCE_CONFLICT", f"Deployment '{deployment}' is not up: start it first.")
        if deployment == self._live:
            return
        self._live, self._previous = deployment, self._live
        self._save()
        self.route.live = upstream
        _log.info("deployment %s is live", deployment)

    def drop(self, deployment: str) -> None:
        """Forget a deployment that has been removed.

        Raises:
            HostError: 409 if it is live.
        """
        if _checked(deployment) == self._live:
            raise HostError(
                409, "RESOURCE_CONFLICT", f"Deployment '{deployment}' is live: let another one serve first."
            )
        upstream = self.route.upstreams.pop(deployment.encode(), None)
        if upstream is not None:
            upstream.down(0.0)
        (self._home / f"{deployment}.sock").unlink(missing_ok=True)
        if deployment == self._previous:
            self._previous = None
            self._save()

    async def watch(self) -> None:
        """Keep track of which servers answer, for ever."""
        while True:
            for path in self._home.glob("*.sock"):
                if path.name != CONTROL:
                    await self._look_at(path)
            await asyncio.sleep(_LOOK_SECONDS)

    async def _look_at(self, path: Path) -> None:
        upstream = self._upstream(path.stem)
        ready = await _ping(path)
        if ready is None:
            if upstream.pool is not None:
                _log.warning("deployment %s is away", path.stem)
                upstream.down(1.0)
        elif ready and upstream.pool is None:
            _log.info("deployment %s is up", path.stem)
            upstream.up(str(path), _CONNECTIONS)

    def _upstream(self, deployment: str) -> Upstream:
        return self.route.upstreams.setdefault(deployment.encode(), Upstream(deployment))

    def _save(self) -> None:
        new = self._state.with_suffix(".new")
        with new.open("w") as file:
            json.dump({"live": self._live, "previous": self._previous}, file)
            file.flush()
            os.fsync(file.fileno())
        new.replace(self._state)


async def _ping(path: Path) -> bool | None:
    """Whether the server behind a socket is ready; None if nobody is there.

    One that takes the connection and does not answer in time is there: it may be busy.
    """
    try:
        reader, writer = await asyncio.open_unix_connection(str(path))
    except BlockingIOError:
        return False
    except OSError:
        return None
    try:
        writer.write(b"GET /ping HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        line = await asyncio.wait_for(reader.readline(), _PING_SECONDS)
        return line.split(b" ")[1:2] == [b"200"]
    except (OSError, TimeoutError):
        return False
    finally:
        writer.close()


def _checked(deployment: str) -> str:
    if not _DEPLOYMENT.fullmatch(deployment) or f"{deployment}.sock" == CONTROL:
        raise HostError(400, "INVALID_PARAMETER_VALUE", f"'{deployment[:80]}' cannot name a deployment.")
    return deployment
