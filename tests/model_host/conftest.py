"""Fixtures: a front door before a real server in one thread, and real model hosts as processes."""

from __future__ import annotations

import asyncio
import socket
import tempfile
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvloop

from slipway_model_host.frontdoor.routing import Route, Routes, Upstream
from slipway_model_host.frontdoor.server import FrontDoor, Limits
from tests.model_host.backend import Backend
from tests.model_host.hosts import HostProcess, ModelMaker, compile_lock


@dataclass
class Door:
    """A front door with endpoint `e`, whose live deployment `v1` is `backend`."""

    loop: asyncio.AbstractEventLoop
    folder: Path
    door: FrontDoor
    backend: Backend
    port: int = 0
    servers: list[asyncio.Server] = field(default_factory=list)

    def call(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine in the front door's loop."""
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    @property
    def upstream(self) -> Upstream:
        """The live deployment."""
        live = self.door.routes[b"e"].live
        assert live is not None
        return live

    async def open(self) -> None:
        """Start both servers."""
        await self.add(self.backend)
        self.door.routes[b"e"].live = self.door.routes[b"e"].upstreams[self.backend.name.encode()]
        sock = socket.create_server(("127.0.0.1", 0))
        self.port = sock.getsockname()[1]
        await self.door.start(sock)

    async def add(self, backend: Backend) -> Upstream:
        """Start another server, as one more deployment of the endpoint."""
        path = self.folder / f"{backend.name}.sock"
        # uvloop stops listening when nobody holds the server.
        self.servers.append(await backend.start(path))
        upstream = Upstream(backend.name)
        upstream.up(str(path), 32)
        self.door.routes.setdefault(b"e", Route()).upstreams[backend.name.encode()] = upstream
        return upstream


@pytest.fixture(scope="session")
def open_door() -> Iterator[Callable[[Limits], Door]]:
    """Make front doors; all run in one thread."""
    loop = uvloop.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    # Kept to the end: what is collected here would be closed by a thread that is not the loop's.
    doors: list[Door] = []
    with tempfile.TemporaryDirectory() as folder:

        def make(limits: Limits) -> Door:
            place = Path(tempfile.mkdtemp(dir=folder))
            door = Door(loop, place, FrontDoor(Routes(), "http", limits), Backend())
            door.call(door.open())
            doors.append(door)
            return door

        yield make
        for door in doors:
            door.call(door.door.stop(0))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(5)


@pytest.fixture(scope="module")
def shared_door(open_door: Callable[[Limits], Door]) -> Door:
    """One front door for all tests of a module."""
    return open_door(Limits(linger_seconds=0.5))


@pytest.fixture
def door(shared_door: Door) -> Door:
    """The module's front door, with nothing seen yet."""
    shared_door.backend.seen.clear()
    shared_door.backend.errors.clear()
    return shared_door


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelMaker:
    """Makes models."""
    folder = tmp_path_factory.mktemp("models")
    return ModelMaker(folder, compile_lock(folder))


@pytest.fixture(scope="session")
def environments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The environments that all hosts of a run share, as hosts and imports do."""
    return tmp_path_factory.mktemp("environments")


@pytest.fixture
def make_host(tmp_path: Path, environments: Path) -> Iterator[Callable[..., HostProcess]]:
    """Start model hosts; each ends with the test."""
    hosts: list[HostProcess] = []

    def make(name: str = "home", environ: dict[str, str] | None = None, **options: Any) -> HostProcess:
        host = HostProcess(tmp_path / name, environments, options, environ or {})
        hosts.append(host)
        return host.start()

    yield make
    for host in hosts:
        if host.process is not None and host.process.poll() is None:
            host.kill()


@pytest.fixture
def host(make_host: Callable[..., HostProcess]) -> HostProcess:
    """One model host."""
    return make_host()
