"""The HTTP side: paths, verbs, selectors, watches, refusals.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/
"""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import AsyncIterator
from typing import Any

import yaml
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from slipway_sandbox.kubernetes import admission, resources
from slipway_sandbox.kubernetes.controllers import NAMESPACES
from slipway_sandbox.kubernetes.faults import Faults
from slipway_sandbox.kubernetes.fields import Object
from slipway_sandbox.kubernetes.kubelet import Kubelet
from slipway_sandbox.kubernetes.proxy import Proxy
from slipway_sandbox.kubernetes.resources import Resource
from slipway_sandbox.kubernetes.selectors import matches_fields, matches_labels
from slipway_sandbox.kubernetes.status import Refusal, not_found, success
from slipway_sandbox.kubernetes.store import Store

__all__ = ["make_app"]

_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]
_WATCH_SECONDS = 300.0


def make_app(store: Store, kubelet: Kubelet, faults: Faults, token: str) -> Starlette:
    """Return the API server's application."""
    api = _Api(store, kubelet, faults, token)
    return Starlette(routes=[Route("/{path:path}", api.answer, methods=_METHODS)])


class _Api:
    def __init__(self, store: Store, kubelet: Kubelet, faults: Faults, token: str) -> None:
        self.store = store
        self.kubelet = kubelet
        self.faults = faults
        self.token = token

    async def answer(self, request: Request) -> Response:
        """Answer any request."""
        try:
            if request.headers.get("authorization") != f"Bearer {self.token}":
                raise Refusal(401, "Unauthorized")
            fault = self.faults.of(request.method, request.url.path)
            if fault:
                raise Refusal(fault.status, fault.message)
            return await self._route(request, request.url.path.strip("/").split("/"))
        except Refusal as refusal:
            headers = {"Retry-After": "1"} if refusal.code == 429 else {}
            return JSONResponse(refusal.body, refusal.code, headers)

    async def _route(self, request: Request, parts: list[str]) -> Response:
        found: Any = None
        if parts == ["version"]:
            found = {"major": "1", "minor": "35", "gitVersion": "v1.35.0-slipway-sandbox"}
        elif parts[0] in {"healthz", "livez", "readyz"}:
            return Response("ok")
        elif parts == ["api"]:
            found = resources.api_versions()
        elif parts == ["apis"]:
            found = resources.group_list()
        elif parts[0] == "api" and len(parts) == 2:
            found = resources.resource_list("", parts[1])
        elif parts[0] == "apis" and len(parts) == 3:
            found = resources.resource_list(parts[1], parts[2])
        elif parts[0] in {"api", "apis"}:
            at = 1 if parts[0] == "api" else 2
            group = "" if parts[0] == "api" else parts[1]
            return await self._resource(request, group, parts[at], parts[at + 1 :])
        if found is None:
            raise Refusal(404, "the server could not find the requested resource")
        return JSONResponse(found)

    async def _resource(self, request: Request, group: str, version: str, rest: list[str]) -> Response:
        namespace = ""
        if len(rest) > 2 and rest[0] == "namespaces":
            namespace, rest = rest[1], rest[2:]
        resource = resources.RESOURCES.get((group, version, rest[0]))
        if resource is None:
            raise Refusal(404, "the server could not find the requested resource")
        name, below = (rest[1] if len(rest) > 1 else ""), rest[2:]
        if below not in ([], ["status"]):
            return await self._subresource(request, resource, (namespace, name), below)
        if request.method == "GET" and name:
            return JSONResponse(self.store.get(resource, namespace, name))
        if request.method == "GET":
            return self._list(request, resource, namespace or None)
        if request.method == "DELETE":
            return self._delete(request, resource, namespace, name)
        return await self._write(request, resource, namespace, name)

    async def _subresource(
        self, request: Request, resource: Resource, at: tuple[str, str], below: list[str]
    ) -> Response:
        namespace, name = at
        if below[0] not in resource.subresources:
            raise Refusal(404, "the server could not find the requested resource")
        if below[0] == "scale":
            return await self._scale(request, resource, namespace, name)
        where, _, port = name.partition(":")
        found = self.store.get(resource, namespace, where)
        if below[0] == "log":
            return self._log(request, found)
        return await Proxy(self.store, self.kubelet, request).to(found, port, "/".join(below[1:]))

    def _matching(self, request: Request, found: list[Object]) -> list[Object]:
        labels, fields = (request.query_params.get(key, "") for key in ("labelSelector", "fieldSelector"))
        return [
            o for o in found if matches_labels(labels, o["metadata"].get("labels") or {}) and matches_fields(fields, o)
        ]

    def _list(self, request: Request, resource: Resource, namespace: str | None) -> Response:
        if request.query_params.get("watch") in {"1", "true", "True"}:
            return StreamingResponse(self._watch(request, resource, namespace), media_type="application/json")
        items = self._matching(request, self.store.all(resource, namespace))
        for item in items:
            del item["apiVersion"], item["kind"]
        metadata = {"resourceVersion": str(self.store.version)}
        listed = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version, "metadata": metadata}
        return JSONResponse({**listed, "items": items})

    async def _watch(self, request: Request, resource: Resource, namespace: str | None) -> AsyncIterator[bytes]:
        until = asyncio.get_running_loop().time() + float(request.query_params.get("timeoutSeconds", _WATCH_SECONDS))
        since = request.query_params.get("resourceVersion") or "0"
        if since == "0":
            for found in self._matching(request, self.store.all(resource, namespace)):
                yield _line("ADDED", found)
            since = str(self.store.version)
        try:
            async for change in self.store.watch(resource, int(since), until):
                if namespace in (None, change.found["metadata"].get("namespace")) and self._matching(
                    request, [change.found]
                ):
                    yield _line(change.kind, change.found)
                    if self.faults.dropped_watches:
                        self.faults.dropped_watches -= 1
                        raise ConnectionResetError("injected by a test")
        except Refusal as refusal:
            yield _line("ERROR", refusal.body)

    def _delete(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        if name:
            self.store.delete(resource, namespace, name)
            return JSONResponse(success(name))
        for found in self._matching(request, self.store.all(resource, namespace or None)):
            self.store.delete(resource, found["metadata"].get("namespace", ""), found["metadata"]["name"])
        return JSONResponse(success(""))

    async def _write(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        if resource.namespaced and self.store.find(NAMESPACES, "", namespace) is None:
            raise not_found("namespaces", namespace)
        body = await _body(request)
        kind = request.headers.get("content-type", "").split(";")[0]
        manager = request.query_params.get("fieldManager") or request.headers.get("user-agent", "unknown").split("/")[0]
        if request.method == "PATCH" and kind.startswith("application/apply-patch"):
            if "fieldManager" not in request.query_params:
                raise Refusal(422, 'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value')
            if body["metadata"].get("name", name) != name:
                raise Refusal(400, "the name of the object does not match the name on the URL")
            _check_kind(resource, body)
            admission.check_schema(body)
            force = request.query_params.get("force") in {"true", "True"}
            check = self._checked(resource)
            found, new = self.store.apply(resource, namespace, body, manager, check, force=force)
            return JSONResponse(found, 201 if new else 200)
        if request.method == "PATCH":
            if kind not in {"application/merge-patch+json", "application/strategic-merge-patch+json"}:
                raise Refusal(415, f"the body of the request was in an unknown format - {kind}")
            merged = _merged(self.store.get(resource, namespace, name), body)
            self._checked(resource)(merged)
            return JSONResponse(self.store.update(resource, namespace, merged, manager))
        _check_kind(resource, body)
        admission.check_schema(body)
        self._checked(resource)(body)
        if request.method == "POST":
            return JSONResponse(self.store.create(resource, namespace, body, manager), 201)
        live = self.store.get(resource, namespace, name)
        kept = {key: live["metadata"][key] for key in ("uid", "creationTimestamp", "generation", "namespace")}
        body["metadata"] |= kept
        return JSONResponse(self.store.update(resource, namespace, {**live, **body}, manager))

    @staticmethod
    def _checked(resource: Resource) -> Any:
        def check(found: Object) -> None:
            admission.set_defaults(resource, found)
            admission.admit(resource, found)

        return check

    async def _scale(self, request: Request, resource: Resource, namespace: str, name: str) -> Response:
        found = self.store.get(resource, namespace, name)
        if request.method in {"PUT", "PATCH"}:
            manager = request.query_params.get("fieldManager", "kubectl")
            found["spec"]["replicas"] = (await _body(request))["spec"]["replicas"]
            found = self.store.update(resource, namespace, found, manager)
        kept = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
        return JSONResponse(
            {
                "kind": "Scale", "apiVersion": "autoscaling/v1",
                "metadata": {key: found["metadata"][key] for key in kept},
                "spec": {"replicas": found["spec"]["replicas"]},
                "status": {"replicas": found.get("status", {}).get("replicas", 0)},
            }
        )  # fmt: skip

    def _log(self, request: Request, pod: Object) -> Response:
        previous = request.query_params.get("previous") in {"true", "True"}
        lines = self.kubelet.logs(pod, previous=previous)
        if lines is None:
            name, container = pod["metadata"]["name"], pod["spec"]["containers"][0]["name"]
            raise Refusal(400, f'previous terminated container "{container}" in pod "{name}" not found')
        tail = int(request.query_params.get("tailLines", len(lines)))
        return Response(
            "".join(f"{line}\n" for line in lines[len(lines) - min(tail, len(lines)) :]), media_type="text/plain"
        )


async def _body(request: Request) -> Any:
    text = await request.body()
    try:
        return yaml.safe_load(text) if b"yaml" in request.headers.get("content-type", "").encode() else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        raise Refusal(400, f"the object provided is unrecognized: {error}") from None


def _check_kind(resource: Resource, body: Object) -> None:
    if (body.get("apiVersion"), body.get("kind")) != (resource.api_version, resource.kind):
        raise Refusal(400, f"the API version and kind in the data do not match the expected {resource.kind}")


def _merged(live: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    merged = dict(live) if isinstance(live, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = _merged(merged.get(key), value)
    return merged


def _line(kind: str, found: Object) -> bytes:
    return json.dumps({"type": kind, "object": found}, separators=(",", ":")).encode() + b"\n"
