"""Wait until a Deployment's rollout is complete or has failed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from slipway.hooks.kubernetes_errors import PASSING, translated, unreachable
from slipway.kubernetes.manifests import CONTAINER, selector
from slipway.kubernetes.rollout import Rollout, assess, named_failure
from slipway.naming import kubernetes_name

if TYPE_CHECKING:
    from kubernetes_asyncio.client import ApiClient

__all__ = ["KubernetesRolloutTrigger"]

_WATCH_SECONDS = 5
_PAUSE_SECONDS = 0.5
_LOG_LINES = 20


class KubernetesRolloutTrigger(BaseTrigger):
    """Watch the pods of a deployment, and look at the whole at each of their changes.

    The event is `{"complete": message}`, or `{"error": sentence, "log": [lines]}` if the rollout failed or `deadline`
    passed, with `"gone": True` if somebody removed the Deployment. A watch that breaks off is begun again.

    :param conn_id: Kubernetes connection.
    :param namespace: where the Deployment is.
    :param endpoint: its endpoint.
    :param deployment: the deployment to wait for.
    :param deadline: when to give up, in seconds since the epoch.
    :param patience: for how many seconds a pod may be unschedulable.
    """

    def __init__(
        self, conn_id: str, namespace: str, endpoint: str, deployment: str, *, deadline: float, patience: float
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id = conn_id
        self.namespace = namespace
        self.endpoint = endpoint
        self.deployment = deployment
        self.deadline = deadline
        self.patience = patience
        self._seen: str | None = None

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return what the triggerer makes the trigger from."""
        names = ("conn_id", "namespace", "endpoint", "deployment", "deadline", "patience")
        return f"{type(self).__module__}.{type(self).__qualname__}", {name: getattr(self, name) for name in names}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Yield the one event."""
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import AsyncKubernetesHook

        hook = AsyncKubernetesHook(conn_id=self.conn_id)
        what = f"watching deployment {self.deployment} of endpoint '{self.endpoint}'"
        said = ""
        while time.time() < self.deadline:
            try:
                async with hook.get_conn() as client:
                    rollout = await self._look(client)
                    if rollout.state != "progressing":
                        yield TriggerEvent(await self._told(client, rollout))
                        return
                    if rollout.message != said:
                        said = rollout.message
                        self.log.info("%s.", said)
                    await self._next_change(client)
            except Exception as e:  # noqa: BLE001  # two clients and the network; what is none of theirs is raised
                failure = self._failure(e, what)
                if failure is not None:
                    gone = {"gone": True} if getattr(e, "status", None) == 404 else {}
                    yield TriggerEvent({"error": failure, "log": [], **gone})
                    return
                await asyncio.sleep(_PAUSE_SECONDS)
        yield TriggerEvent(
            {
                "error": f"Deployment {self.deployment} of endpoint '{self.endpoint}' was not ready in time"
                f"{f' ({said})' if said else ''}: see its pods' events, or raise [slipway] ready_timeout_seconds.",
                "log": [],
            }
        )

    def _failure(self, error: Exception, what: str) -> str | None:
        """Return what ends the wait, in a sentence; None for what passes."""
        import aiohttp
        from kubernetes_asyncio.client.exceptions import ApiException

        if isinstance(error, ApiException) and error.status is not None:
            status = int(error.status)
            sentence = str(translated(status, _text(error.body), what, self.conn_id))
            if status in PASSING or status == 410:  # 410: what the watch began with is too old
                self.log.warning("%s", sentence)
                return None
            return sentence
        if isinstance(error, (aiohttp.ClientError, TimeoutError, OSError)):
            self.log.warning("%s", unreachable(error, what, self.conn_id))
            return None
        raise error

    async def _look(self, client: ApiClient) -> Rollout:
        from kubernetes_asyncio.client import AppsV1Api, CoreV1Api

        name, core = kubernetes_name(self.endpoint, self.deployment), CoreV1Api(client)
        found = client.sanitize_for_serialization(
            await AppsV1Api(client).read_namespaced_deployment(name, self.namespace)
        )
        listed = await core.list_namespaced_pod(self.namespace, label_selector=self._selector)
        self._seen = listed.metadata.resource_version
        pods = client.sanitize_for_serialization(listed)["items"]
        events: list[dict[str, Any]] = []
        if pods:
            chosen = "involvedObject.kind=Pod"
            events = client.sanitize_for_serialization(
                await core.list_namespaced_event(self.namespace, field_selector=chosen)
            )["items"]
        return assess(found, pods, events, now=datetime.now(UTC), patience=self.patience)

    async def _next_change(self, client: ApiClient) -> None:
        """Return at the next change of one of the pods since the last look, or after some seconds."""
        from kubernetes_asyncio.client import CoreV1Api
        from kubernetes_asyncio.watch import Watch

        core = CoreV1Api(client)
        watch = Watch()
        try:
            async for _ in watch.stream(
                core.list_namespaced_pod,
                self.namespace,
                label_selector=self._selector,
                resource_version=self._seen,
                timeout_seconds=_WATCH_SECONDS,
            ):
                break
        finally:
            await watch.close()
        # The Deployment's own status follows its pods' at some distance.
        await asyncio.sleep(_PAUSE_SECONDS)

    async def _told(self, client: ApiClient, rollout: Rollout) -> dict[str, Any]:
        if rollout.state == "complete":
            return {"complete": rollout.message}
        log = await self._pod_log(client, rollout) if rollout.pod else []
        what = f"Deployment {self.deployment} of endpoint '{self.endpoint}'"
        return {"error": named_failure(what, rollout, log), "log": log}

    async def _pod_log(self, client: ApiClient, rollout: Rollout) -> list[str]:
        from kubernetes_asyncio.client import CoreV1Api
        from kubernetes_asyncio.client.exceptions import ApiException

        try:
            text = await CoreV1Api(client).read_namespaced_pod_log(
                str(rollout.pod), self.namespace, container=CONTAINER, previous=rollout.crashed, tail_lines=_LOG_LINES
            )
        except ApiException:  # a container that never started has none
            return []
        return str(text).splitlines()

    @property
    def _selector(self) -> str:
        return ",".join(f"{name}={value}" for name, value in selector(self.endpoint, self.deployment).items())


def _text(body: Any) -> str:
    return body.decode(errors="replace") if isinstance(body, bytes) else str(body or "")
