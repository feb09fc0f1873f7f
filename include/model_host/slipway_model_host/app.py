"""The host as a whole: takes its home, opens both listeners, restores what ran, and goes down in good order."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

import uvicorn

from .admin import Admin
from .collect import collect_environments, collect_folders
from .config import Config
from .deployment import Host
from .endpoints import Endpoints
from .fetch import Models
from .frontdoor.routing import Routes
from .frontdoor.server import FrontDoor, Limits
from .process import Guard
from .store import Store, admin_token

_log = logging.getLogger(__name__)


class _AdminServer(uvicorn.Server):
    """uvicorn without its signal handlers: the host has its own."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run(config: Config, store: Store) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        SystemExit: an address is taken, or the home is not usable.
    """
    token = admin_token(config)
    door_socket = _bind(config.host, config.port, "port")
    admin_socket = _bind(config.admin_host, config.admin_port, "admin-port")
    url = (config.public_url or _url(door_socket)).rstrip("/")
    admin_url = _url(admin_socket)
    guard = Guard()
    await guard.start()
    starts = asyncio.Semaphore(max(4, 2 * (os.cpu_count() or 1)))
    host = Host(config, store, Models(config, store, guard), guard, store.sockets(), url, starts)
    routes = Routes()
    endpoints = Endpoints(host, routes)
    endpoints.restore()
    door = FrontDoor(
        routes,
        urlsplit(url).scheme,
        Limits(
            config.replay_bytes, config.keep_alive_seconds, config.client_seconds, config.answer_seconds,
            connections=config.client_connections,
        ),
    )  # fmt: skip
    await door.start(door_socket)
    admin = _AdminServer(
        uvicorn.Config(
            Admin(endpoints, token).app(), http="httptools", ws="none", lifespan="off", log_config=None,
            access_log=False, server_header=False, limit_concurrency=512, timeout_graceful_shutdown=1,
        )
    )  # fmt: skip
    serving = asyncio.create_task(admin.serve([admin_socket]))
    collecting = asyncio.create_task(_collect(config, host, endpoints))
    store.announce(url, admin_url)
    _log.info("endpoints at %s, admin API at %s, home %s", url, admin_url, config.home)
    await _told_to_stop()
    _log.info("stopping")
    collecting.cancel()
    admin.should_exit = True
    await door.stop(config.drain_seconds)
    await serving
    await endpoints.stop()
    await guard.stop()


async def _told_to_stop() -> None:
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, told.set)
    await told.wait()


async def _collect(config: Config, host: Host, endpoints: Endpoints) -> None:
    while True:
        await asyncio.sleep(config.collect_interval_seconds)
        digests, uris, names = endpoints.used()
        models = {host.models.folder(uri).parent.name for uri in uris}
        age = config.collect_after_seconds
        try:
            await asyncio.to_thread(collect_environments, config.environments, digests, age)
            await asyncio.to_thread(collect_folders, host.store.models, models, age)
            for root in (host.store.work, host.store.logs):
                await asyncio.to_thread(collect_folders, root, names, age)
        except OSError:
            _log.exception("collecting what is unused failed; it is tried again")


def _bind(host: str, port: int, flag: str) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        # From here on clients wait rather than being refused, however long the rest of the start takes.
        sock.listen(1024)
    except OSError as error:
        raise SystemExit(f"{host}:{port} cannot be listened on ({error.strerror}); give another --{flag}.") from None
    return sock


def _url(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - every address of this machine: its name is what others can use
        host = socket.gethostname()
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
