"""One deployment: from its spec to a scoring server that serves, drains and stops."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import itertools
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import Config
from .environment import Plan, ensure_environment, make_plan
from .errors import DeploymentFailure
from .fetch import Models
from .frontdoor.routing import Upstream
from .logs import LogFile
from .process import Guard
from .records import PENDING, DeploymentRecord, EndpointRecord, State
from .store import Store, deployment_folder
from .supervisor import Supervisor

_log = logging.getLogger(__name__)

_sequence = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Host:
    """What all deployments share."""

    config: Config
    store: Store
    models: Models
    guard: Guard
    sockets: Path
    public_url: str
    starts: asyncio.Semaphore
    """Bounds how many servers start at a time, so that a host with many endpoints comes back rather than thrashes."""


class Deployment:
    """A record, and while it is wanted, the task that keeps its server up.

    States: preparing → starting → ready → live → draining → stopped; failed from any of the first three. Only a live
    one is started again when its server ends.
    """

    def __init__(self, host: Host, endpoint: EndpointRecord, record: DeploymentRecord) -> None:
        self.record = record
        self.upstream = Upstream(record.id)
        self._host = host
        self._endpoint = endpoint
        self._supervisor: Supervisor | None = None
        self._task: asyncio.Task[None] | None = None
        self._retiring: asyncio.Task[None] | None = None
        self._stopping = False
        self._changed = asyncio.Event()

    @property
    def state(self) -> State:
        """Where the deployment is in its life."""
        return self.record.state

    @property
    def failed(self) -> bool:
        """Whether it gave up."""
        return self.record.state == "failed"

    def set_state(self, state: State, error: str | None = None) -> None:
        """Enter a state, and wake whoever waits for that."""
        if state != self.record.state:
            _log.info("%s/%s: %s%s", self._endpoint.name, self.record.id, state, f": {error}" if error else "")
        self.record.state = state
        self.record.error = error
        self._changed.set()
        self._changed = asyncio.Event()

    async def settled(self, patience: float) -> None:
        """Return when the deployment has left its pending states, after at most `patience` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(patience):
                while self.state in PENDING:
                    await self._changed.wait()

    # Coming up.

    def begin(self) -> None:
        """Bring the server up; a live deployment stays live and is tried again until it is up."""
        config, record = self._host.config, self.record
        folder = deployment_folder(self._host.store.logs, self._endpoint.name, record.id)
        log = LogFile(folder / "server.log", config.log_bytes, config.log_files)
        if record.state != "live":
            record.log_tail = []
            self.set_state("preparing")

        async def prepare() -> Plan:
            return await self._prepare(log)

        self._supervisor = Supervisor(
            config, self._host.guard, self.upstream, log, starts=self._host.starts, socket_path=self._socket_path,
            prepare=prepare, keep=lambda: self._endpoint.live == record.id, came_up=self._came_up,
        )  # fmt: skip
        self._task = asyncio.create_task(self._run(self._supervisor, log))

    async def _run(self, supervisor: Supervisor, log: LogFile) -> None:
        try:
            await supervisor.run()
        except DeploymentFailure as failure:
            if self.state not in {"draining", "stopped"}:
                self.record.log_tail = list(log.tail)
                # Fetching and installing fail by networks and disks: such a deployment may be put again.
                self.record.passing = self.state == "preparing"
                self.set_state("failed", str(failure))
                await self._save()
        finally:
            log.close()

    async def _prepare(self, log: LogFile) -> Plan:
        host, record, name = self._host, self.record, self._endpoint.name
        model_dir = await host.models.ensure(record.spec.artifact_uri)
        environment = await ensure_environment(host.config, model_dir, record.spec.lock_digest, log, host.guard)
        record.environment = str(environment)
        if record.state == "preparing":
            self.set_state("starting")
        token = self._endpoint.token if record.spec.auth == "token" else None
        work = deployment_folder(host.store.work, name, record.id)
        return make_plan(host.config, name, record.spec, model_dir, environment, work=work, token=token)

    def _came_up(self) -> None:
        if self.record.state == "starting":
            self.set_state("ready")

    def _socket_path(self) -> Path:
        # A new name for each start: a server that is still going down cannot get in the way of the next.
        name = hashlib.sha256(f"{self._endpoint.name}/{self.record.id}".encode()).hexdigest()[:16]
        return self._host.sockets / f"{name}.{next(_sequence)}.sock"

    # Going down.

    def drain(self) -> None:
        """Let what is in flight end, then stop the server, in the background; `retired` waits for that."""
        if self._retiring is None:
            self.set_state("draining")
            self._retiring = asyncio.create_task(self._retire())

    async def retired(self) -> None:
        """Return when a drain that is under way has ended."""
        if self._retiring is not None:
            await asyncio.wait([self._retiring])

    def cancel_drain(self) -> bool:
        """Take a draining deployment back into service; False if its server is going down already."""
        up = self._supervisor is not None and self._supervisor.up
        if self._retiring is None or self._stopping or not up:
            return False
        self._retiring.cancel()
        self._retiring = None
        self.set_state("ready")
        return True

    async def _retire(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._host.config.drain_seconds):
                await self.upstream.drained()
        await self.stop()
        self._retiring = None
        self.set_state("stopped")
        await self._save()

    async def stop(self) -> None:
        """Stop the server now."""
        self._stopping = True
        self.upstream.down(1)
        task, self._task = self._task, None
        supervisor, self._supervisor = self._supervisor, None
        if task is not None:
            # It stops its server before it ends.
            task.cancel()
            await asyncio.wait([task])
        if supervisor is not None:
            self.record.restarts = supervisor.restarts
        self._stopping = False

    async def _save(self) -> None:
        if self._endpoint.deployments.get(self.record.id) is self.record:
            await self._host.store.save(self._endpoint)

    def view(self) -> dict[str, Any]:
        """The deployment as the admin API shows it."""
        record, supervisor = self.record, self._supervisor
        return {
            "id": record.id,
            "endpoint": self._endpoint.name,
            "state": record.state,
            "error": record.error or (supervisor.trouble if supervisor is not None else None),
            "passing": record.passing,
            "model": record.spec.model,
            "version": record.spec.version,
            "model_uri": record.spec.model_uri,
            "auth": record.spec.auth,
            "created_at": record.created_at,
            "url": f"{self._host.public_url}/endpoints/{self._endpoint.name}",
            "environment": record.environment,
            "pid": supervisor.pid if supervisor is not None else None,
            "up": supervisor is not None and supervisor.up,
            "in_flight": self.upstream.in_flight,
            "requests": self.upstream.requests,
            "restarts": supervisor.restarts if supervisor is not None else record.restarts,
            "log_tail": record.log_tail,
        }
