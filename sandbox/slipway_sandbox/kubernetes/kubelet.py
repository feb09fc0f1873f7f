"""The node: schedules pods onto itself, pulls images, runs containers, probes them, keeps their logs.

What it writes into a pod's status, and when, follows
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import httpx

from slipway_sandbox.kubernetes.controllers import PODS, condition
from slipway_sandbox.kubernetes.faults import Faults
from slipway_sandbox.kubernetes.fields import Object
from slipway_sandbox.kubernetes.resources import RESOURCES
from slipway_sandbox.kubernetes.store import Store, now
from slipway_sandbox.serving import Server, ServingError

__all__ = ["Kubelet", "Runtime"]

EVENTS = RESOURCES[("", "v1", "events")]
_MANAGER = "kubelet"
# A real node waits 10 s before its second try, and twice that each time; tests have no such time.
_BACK_OFF_SECONDS = 0.3
_PROBE_SECONDS = 0.2

Runtime = Callable[[str, Mapping[str, str], list[str]], Server]


@dataclass
class _Running:
    """What the node knows of one pod."""

    task: asyncio.Task[None]
    server: Server | None = None
    restarts: int = 0
    previous: list[str] = field(default_factory=list)
    # What the log says where there is no server.
    said: list[str] = field(default_factory=list)


class Kubelet:
    """The one node of a cluster.

    :param runtime: starts a container's command: image, variables, arguments; raises ServingError if it has no such
        image.
    """

    def __init__(self, store: Store, faults: Faults, runtime: Runtime) -> None:
        self.store = store
        self.faults = faults
        self.runtime = runtime
        self._pods: dict[str, _Running] = {}
        self._addresses = itertools.count(2)
        self._events = itertools.count(1)
        self._http = httpx.AsyncClient(timeout=5.0)

    def sync(self) -> None:
        """Begin with new pods, and end those that are to go."""
        for pod in self.store.all(PODS):
            uid = pod["metadata"]["uid"]
            space, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                running = self._pods.pop(uid, None)
                if running:
                    running.task.cancel()
                    asyncio.get_running_loop().create_task(self._end(running, space, name))
                elif pod["status"].get("phase") != "Terminating":
                    self.store.change(PODS, space, name, lambda p: p["status"].update(phase="Terminating"), _MANAGER)
                    self.store.remove(PODS, space, name)
            elif uid not in self._pods:
                self._pods[uid] = _Running(asyncio.get_running_loop().create_task(self._run(pod)))

    def url(self, pod: Object) -> str | None:
        """Where a pod's server listens, if it runs."""
        running = self._pods.get(pod["metadata"]["uid"])
        return running.server.url if running and running.server else None

    def logs(self, pod: Object, *, previous: bool) -> list[str] | None:
        """A container's log, or that of its start before; None if there is none."""
        running = self._pods.get(pod["metadata"]["uid"])
        if running is None or (previous and not running.restarts):
            return None
        if previous:
            return running.previous
        return running.server.logs() if running.server else running.said

    async def close(self) -> None:
        """End all pods."""
        for running in self._pods.values():
            running.task.cancel()
            if running.server:
                await asyncio.to_thread(running.server.stop)
        self._pods.clear()
        await self._http.aclose()

    async def _end(self, running: _Running, space: str, name: str) -> None:
        if running.server:
            await asyncio.to_thread(running.server.stop)
        if self.store.find(PODS, space, name):
            self.store.remove(PODS, space, name)

    async def _run(self, pod: Object) -> None:
        container = pod["spec"]["containers"][0]
        message = "0/1 nodes are available: 1 Insufficient memory."
        while self.faults.unschedulable:
            self._edit(pod, lambda p: condition(p, "PodScheduled", "False", "Unschedulable", message))
            self._event(pod, "Warning", "FailedScheduling", message)
            await asyncio.sleep(_BACK_OFF_SECONDS)
        address = f"10.244.0.{next(self._addresses)}"

        def bind(found: Object) -> None:
            condition(found, "PodScheduled", "True", "")
            found["spec"]["nodeName"] = "node-1"
            found["status"] |= {"podIP": address, "hostIP": "10.0.0.1", "startTime": now()}
            self._status(found, container, {"waiting": {"reason": "ContainerCreating"}})

        self._edit(pod, bind)
        self._event(pod, "Normal", "Scheduled", f"Successfully assigned {pod['metadata']['name']} to node-1")
        running = self._pods[pod["metadata"]["uid"]]
        while True:
            await self._start(pod, container, running)
            await self._probe(pod, container, running)
            await self._crashed(pod, container, running)

    async def _start(self, pod: Object, container: Object, running: _Running) -> None:
        image = container["image"]
        variables = {entry["name"]: entry.get("value", "") for entry in container.get("env", [])}
        while True:
            self._event(pod, "Normal", "Pulling", f'Pulling image "{image}"')
            try:
                if any(part in image for part in self.faults.pull):
                    raise ServingError("manifest unknown")
                if any(part in image for part in self.faults.crash):
                    running.said = ["loading the model", "ValueError: injected by a test"]
                else:
                    running.server = await asyncio.to_thread(self.runtime, image, variables, container.get("args", []))
            except ServingError as error:
                message = f'failed to pull and unpack image "{image}": {error}'
                self._event(pod, "Warning", "Failed", f"Failed to pull image: {message}")
                for reason, told in (("ErrImagePull", message), ("ImagePullBackOff", f"Back-off pulling: {message}")):
                    state = {"waiting": {"reason": reason, "message": told}}
                    self._edit(pod, partial(self._status, container=container, state=state))
                    await asyncio.sleep(_BACK_OFF_SECONDS)
                continue
            self._event(pod, "Normal", "Started", f"Started container {container['name']}")
            state = {"running": {"startedAt": now()}}
            self._edit(pod, partial(self._status, container=container, state=state, phase="Running"))
            return

    async def _probe(self, pod: Object, container: Object, running: _Running) -> None:
        """Probe until the container ends."""
        sick = any(part in container["image"] for part in self.faults.sick)
        path = container["readinessProbe"]["httpGet"]["path"] if "readinessProbe" in container else None
        known: bool | None = None
        while running.server and running.server.exit_status() is None:
            ready = path is None
            with suppress(httpx.HTTPError):
                ready = path is None or (await self._http.get(f"{running.server.url}{path}")).is_success
            if sick:
                ready = False
                message = "Readiness probe failed: HTTP probe failed with statuscode: 503"
                self._event(pod, "Warning", "Unhealthy", message)
            if ready != known:
                known = ready
                state = {"running": {"startedAt": now()}}
                self._edit(pod, partial(self._status, container=container, state=state, ready=ready))
            await asyncio.sleep(_PROBE_SECONDS)

    async def _crashed(self, pod: Object, container: Object, running: _Running) -> None:
        code = 1
        if running.server:
            code = running.server.exit_status() or 0
            running.said = await asyncio.to_thread(running.server.logs)
            await asyncio.to_thread(running.server.stop)
            running.server = None
        running.previous, running.restarts = running.said, running.restarts + 1
        ended = {"exitCode": code, "reason": "Error" if code else "Completed", "finishedAt": now()}
        last = {"terminated": ended}
        first = running.restarts == 1
        state = last if first else {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting"}}
        told = partial(self._status, container=container, state=state, last=last, restarts=running.restarts)
        self._edit(pod, told)
        self._event(pod, "Warning", "BackOff", f"Back-off restarting failed container {container['name']}")
        await asyncio.sleep(_BACK_OFF_SECONDS if first else 10 * _BACK_OFF_SECONDS)

    def _edit(self, pod: Object, edit: Callable[[Object], object]) -> None:
        self.store.change(PODS, pod["metadata"]["namespace"], pod["metadata"]["name"], edit, _MANAGER)

    @staticmethod
    def _status(
        pod: Object, container: Object, state: Object, *, ready: bool = False, phase: str | None = None,
        last: Object | None = None, restarts: int | None = None,
    ) -> None:  # fmt: skip
        old: Object = next(iter(pod["status"].get("containerStatuses", [])), {})
        pod["status"]["containerStatuses"] = [
            {
                "name": container["name"], "image": container["image"], "imageID": container["image"],
                "ready": ready, "started": "running" in state, "state": state,
                "lastState": old.get("lastState", {}) if last is None else last,
                "restartCount": old.get("restartCount", 0) if restarts is None else restarts,
            }
        ]  # fmt: skip
        if phase:
            pod["status"]["phase"] = phase
        for kind in ("ContainersReady", "Ready"):
            condition(pod, kind, str(ready), "" if ready else "ContainersNotReady")

    def _event(self, pod: Object, kind: str, reason: str, message: str) -> None:
        metadata = pod["metadata"]
        about = {"kind": "Pod", "apiVersion": "v1", **{k: metadata[k] for k in ("name", "namespace", "uid")}}
        event = {
            "metadata": {"name": f"{metadata['name']}.{next(self._events):x}"}, "involvedObject": about, "type": kind,
            "reason": reason, "message": message, "firstTimestamp": now(), "lastTimestamp": now(), "count": 1,
            "source": {"component": "kubelet"},
        }  # fmt: skip
        self.store.create(EVENTS, metadata["namespace"], event, _MANAGER)
