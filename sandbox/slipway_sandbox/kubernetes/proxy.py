"""The API server's proxy to pods and services: what is asked there reaches a real scoring server."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import httpx
from starlette.requests import Request
from starlette.responses import Response

from slipway_sandbox.kubernetes.controllers import PODS, is_ready
from slipway_sandbox.kubernetes.fields import Object
from slipway_sandbox.kubernetes.kubelet import Kubelet
from slipway_sandbox.kubernetes.selectors import selects
from slipway_sandbox.kubernetes.status import Refusal
from slipway_sandbox.kubernetes.store import Store

__all__ = ["Proxy"]

_turns = itertools.count()


@dataclass(frozen=True)
class Proxy:
    """One request that is to be sent on."""

    store: Store
    kubelet: Kubelet
    request: Request

    async def to(self, found: Object, port: str, path: str) -> Response:
        """Send it to a pod, or to one of the ready pods that a Service selects, in turn.

        :param found: the Pod or Service.
        :param port: the port's number or name, as in the path.
        """
        request = self.request
        pod = found if found["kind"] == "Pod" else _behind(self.store, found, port)
        base = self.kubelet.url(pod)
        if base is None or (found["kind"] == "Pod" and port not in {"8080", "http"}):
            address = pod["status"].get("podIP", "10.244.0.0")
            raise Refusal(503, f"error trying to reach service: dial tcp {address}:{port}: connect: connection refused")
        headers = {k: v for k, v in request.headers.items() if k not in {"host", "authorization", "content-length"}}
        query = f"?{request.url.query}" if request.url.query else ""
        async with httpx.AsyncClient(timeout=60.0) as client:
            try:
                answer = await client.request(
                    request.method, f"{base}/{path}{query}", content=await request.body(), headers=headers
                )
            except httpx.HTTPError as error:
                raise Refusal(503, f"error trying to reach service: {type(error).__name__}") from None
        kept = {k: v for k, v in answer.headers.items() if k in {"content-type", "retry-after"}}
        return Response(answer.content, answer.status_code, kept)


def _behind(store: Store, service: Object, port: str) -> Object:
    name, space = service["metadata"]["name"], service["metadata"]["namespace"]
    ports = {str(key) for entry in service["spec"].get("ports", []) for key in (entry.get("name"), entry["port"])}
    chosen = service["spec"].get("selector") or {}
    pods = [p for p in store.all(PODS, space) if selects(chosen, p["metadata"].get("labels")) and is_ready(p)]
    if not pods or port not in ports:
        raise Refusal(503, f'no endpoints available for service "{name}:{port}"')
    return pods[next(_turns) % len(pods)]
