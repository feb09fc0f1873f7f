"""The sandbox as one HTTPS server: every route behind token, api-version and faults."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import uvicorn
from starlette.applications import Starlette
from starlette.convertors import Convertor, register_url_convertor
from starlette.middleware import Middleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from slipway_sandbox.azure.assets import Assets
from slipway_sandbox.azure.autoscale import Autoscale
from slipway_sandbox.azure.azurite import running_azurite
from slipway_sandbox.azure.deployments import Deployments
from slipway_sandbox.azure.endpoints import Endpoints
from slipway_sandbox.azure.errors import ArmError, as_response
from slipway_sandbox.azure.faults import FaultMiddleware, Faults
from slipway_sandbox.azure.login import Login
from slipway_sandbox.azure.operations import Operations
from slipway_sandbox.azure.runtime import Runtime
from slipway_sandbox.azure.scoring import Scoring
from slipway_sandbox.azure.settings import Settings
from slipway_sandbox.azure.tls import Certificates, certificates
from slipway_sandbox.azure.workspace import Workspace

__all__ = ["Sandbox", "running_sandbox"]

_ARM = re.compile(
    r"/subscriptions/([^/]+)(?:/resourceGroups/([^/]+)/providers/[^/]+/workspaces/([^/]+))?", re.IGNORECASE
)


class _Asset(Convertor[str]):
    regex = "models|environments"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("asset", _Asset())


@dataclass
class Sandbox:
    """A running sandbox, with its parts for tests to look at."""

    settings: Settings
    certificates: Certificates
    faults: Faults
    login: Login
    assets: Assets
    endpoints: Endpoints
    scoring: Scoring
    autoscale: Autoscale
    operations: Operations
    app: Starlette
    loop: asyncio.AbstractEventLoop | None = None

    @property
    def environment(self) -> dict[str, str]:
        """The variables that make a client use this sandbox, and Slipway's connection."""
        return {
            **self.settings.environment(self.certificates.bundle),
            "AIRFLOW_CONN_AZUREML_DEFAULT": self.settings.connection(),
        }

    def reset(self) -> None:
        """End all that serves or is under way, and forget all that was made; from any thread."""
        if self.loop is not None:
            asyncio.run_coroutine_threadsafe(self.clear(), self.loop).result(120)

    async def clear(self) -> None:
        """Do `reset` in the server's own loop."""
        self.faults.set()
        await self.operations.cancel()
        endpoints = list(self.endpoints.known.values())
        self.endpoints.known.clear()
        self.assets.versions.clear()
        self.autoscale.known.clear()
        for endpoint in endpoints:
            for deployment in endpoint.deployments.values():
                if deployment.replica:
                    await asyncio.to_thread(deployment.replica.stop)


class _ArmGate:
    """ARM's door: a token for ARM, an api-version, the right subscription and workspace."""

    def __init__(self, app: ASGIApp, login: Login, workspace: Workspace) -> None:
        self.app = app
        self.login = login
        self.workspace = workspace

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        named = _ARM.match(scope["path"]) if scope["type"] == "http" else None
        if named:
            headers = dict(scope["headers"])
            try:
                self.login.check(headers.get(b"authorization", b"").decode(), self.login.settings.url)
                if b"api-version=" not in scope["query_string"]:
                    raise ArmError(400, "MissingApiVersionParameter", "The api-version query parameter is required.")
                if named.group(3):
                    self.workspace.check(*named.groups())
            except ArmError as e:
                await (await as_response(None, e))(scope, receive, send)  # type: ignore[arg-type]
                return
        await self.app(scope, receive, send)


def make(settings: Settings, made: Certificates) -> Sandbox:
    """Return the sandbox with its app, not yet serving."""
    faults = Faults()
    login, operations, assets = Login(settings, faults), Operations(settings), Assets(settings)
    endpoints = Endpoints(settings, operations, faults)
    workspace, scoring, autoscale = Workspace(settings), Scoring(endpoints, login), Autoscale()
    deployments = Deployments(endpoints, assets, Runtime(settings, made))
    rooms = (workspace, assets, endpoints, deployments, operations, scoring, autoscale, login)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:  # noqa: ARG001
        sandbox.loop = asyncio.get_running_loop()
        yield
        await sandbox.clear()
        await scoring.close()

    app = Starlette(
        routes=[
            Route("/_sandbox/faults", faults.route, methods=["GET", "PUT", "DELETE"]),
            *(route for room in rooms for route in room.routes()),
        ],
        middleware=[
            Middleware(FaultMiddleware, faults=faults),
            Middleware(_ArmGate, login=login, workspace=workspace),
        ],
        exception_handlers={ArmError: as_response},
        lifespan=lifespan,
    )
    sandbox = Sandbox(settings, made, faults, login, assets, endpoints, scoring, autoscale, operations, app)
    return sandbox


@contextmanager
def running_sandbox(settings: Settings) -> Iterator[Sandbox]:
    """Run a sandbox in this process, in a thread of its own, until the block ends."""
    made = certificates(settings.home / "tls")
    with running_azurite(settings, made):
        sandbox = make(settings, made)
        config = uvicorn.Config(
            sandbox.app, host="127.0.0.1", port=settings.port, log_level=logging.WARNING, access_log=False,
            ssl_keyfile=str(made.key), ssl_certfile=str(made.chain), timeout_graceful_shutdown=3,
        )  # fmt: skip
        server = uvicorn.Server(config)
        listener = socket.create_server(("127.0.0.1", settings.port))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            while not server.started:
                if not thread.is_alive():
                    raise RuntimeError("The sandbox does not start: see its log.")
                thread.join(0.02)
            yield sandbox
        finally:
            server.should_exit = True
            thread.join(60)
