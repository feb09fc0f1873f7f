"""The cluster as a whole: an API server in a thread, HTTPS with a CA of its own, a kubeconfig for its clients."""

from __future__ import annotations

import asyncio
import base64
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import trustme
import uvicorn

from slipway_sandbox.kubernetes.api import make_app
from slipway_sandbox.kubernetes.controllers import NAMESPACES, Controllers
from slipway_sandbox.kubernetes.faults import Faults
from slipway_sandbox.kubernetes.kubelet import Kubelet, Runtime
from slipway_sandbox.kubernetes.store import Store
from slipway_sandbox.serving import Server, ServingError, end_leftovers, start

__all__ = ["FakeCluster"]

_LOOPBACK = "127.0.0.1"
_RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}
# How long a controller may sleep where nothing changes: deadlines pass without an event.
_TICK_SECONDS = 0.25


class FakeCluster:
    """A cluster with one node; a context manager.

    :param folder: for the logs of the servers and their notes.
    :param environments: folder of the models' virtual environments.
    :param namespaces: those that are there; `default` always is. All enforce the restricted pod security standard.
    :param runtime: what runs containers; by default, processes of the scoring server with the models in `images`.
    """

    def __init__(
        self, folder: Path, environments: Path, *, namespaces: tuple[str, ...] = (), runtime: Runtime | None = None
    ) -> None:
        self.images: dict[str, Path] = {}
        self.faults = Faults()
        self.url = ""
        self.token = secrets.token_urlsafe(24)
        self._folder = folder
        self._environments = environments
        self._namespaces = ("default", *namespaces)
        self._runtime = runtime or self._process
        self._authority = trustme.CA()
        self._up = threading.Event()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._serve, name="fake-cluster", daemon=True)

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._thread.start()
        while self._server is None or not self._server.started:
            if not self._thread.is_alive():
                raise RuntimeError("The cluster did not come up: see the thread's traceback above.")
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        if self._server:
            self._server.should_exit = True
        self._thread.join(30)
        end_leftovers(self._folder)

    @property
    def kubeconfig(self) -> dict[str, Any]:
        """What a client needs to know."""
        authority = base64.b64encode(self._authority.cert_pem.bytes()).decode()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "sandbox",
            "clusters": [{"name": "sandbox", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "slipway", "user": {"token": self.token}}],
            "contexts": [
                {"name": "sandbox", "context": {"cluster": "sandbox", "user": "slipway", "namespace": "default"}}
            ],
        }

    def _process(self, image: str, variables: Mapping[str, str], arguments: list[str]) -> Server:
        if image not in self.images:
            raise ServingError("manifest unknown")
        return start(
            self.images[image], folder=self._folder, environments=self._environments, env=variables, argv=arguments
        )

    def _serve(self) -> None:
        asyncio.run(self._main())

    async def _main(self) -> None:
        store = Store()
        for name in self._namespaces:
            store.create(NAMESPACES, "", {"metadata": {"name": name, "labels": dict(_RESTRICTED)}}, "kubectl")
        kubelet = Kubelet(store, self.faults, self._runtime)
        controllers = Controllers(store, self.faults)
        with socket.create_server((_LOOPBACK, 0)) as listening:
            self.url = f"https://{_LOOPBACK}:{listening.getsockname()[1]}"
            app = make_app(store, kubelet, self.faults, self.token)
            config = uvicorn.Config(app, log_level="critical", lifespan="off", timeout_graceful_shutdown=1)
            config.load()
            config.ssl = self._tls()
            self._server = uvicorn.Server(config)
            # The server is told to end by `__exit__`; signals are the test runner's.
            self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
            loop = asyncio.create_task(self._control(store, controllers, kubelet))
            await self._server.serve(sockets=[listening])
            loop.cancel()
            with suppress(asyncio.CancelledError):
                await loop
            await kubelet.close()

    def _tls(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._authority.issue_cert(_LOOPBACK).configure_cert(context)
        return context

    @staticmethod
    async def _control(store: Store, controllers: Controllers, kubelet: Kubelet) -> None:
        while True:
            before = store.version
            controllers.reconcile()
            kubelet.sync()
            if store.version == before:
                await store.news(_TICK_SECONDS)
            else:
                await asyncio.sleep(0)
