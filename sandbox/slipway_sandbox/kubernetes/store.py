"""The objects, their versions, and the changes that watches read."""

from __future__ import annotations

import asyncio
import copy
import json
import uuid
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from slipway_sandbox.kubernetes import fields
from slipway_sandbox.kubernetes.fields import Object, Path
from slipway_sandbox.kubernetes.resources import Resource
from slipway_sandbox.kubernetes.status import Refusal, already_exists, conflict, not_found

__all__ = ["Change", "Store", "now", "owned_by"]

_HISTORY = 5000


@dataclass(frozen=True)
class Change:
    """An object came, changed or went."""

    version: int
    kind: str  # ADDED, MODIFIED, DELETED
    resource: Resource
    found: Object


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def owned_by(found: Object, uid: str) -> bool:
    """Whether an object is owned by the one with this uid."""
    return any(owner["uid"] == uid for owner in found["metadata"].get("ownerReferences", []))


class Store:
    """All objects of a cluster. It belongs to one event loop; what it returns is a copy."""

    def __init__(self) -> None:
        self.version = 1
        self._objects: dict[tuple[Resource, str, str], Object] = {}
        self._owners: dict[str, dict[tuple[str, str], set[Path]]] = {}  # by uid: (manager, operation) → paths
        self._history: deque[Change] = deque(maxlen=_HISTORY)
        self._news = asyncio.Event()

    def find(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Return an object, or None."""
        return copy.deepcopy(self._objects.get((resource, namespace, name)))

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return an object; refused with 404 if it is not there."""
        found = self.find(resource, namespace, name)
        if found is None:
            raise not_found(resource.qualified, name)
        return found

    def all(self, resource: Resource, namespace: str | None = None) -> list[Object]:
        """Return all objects of a kind, of one namespace or of all."""
        return [
            copy.deepcopy(found)
            for (kind, space, _), found in self._objects.items()
            if kind == resource and namespace in (None, space)
        ]

    def create(self, resource: Resource, namespace: str, found: Object, manager: str) -> Object:
        """Add an object; refused with 409 if its name is taken."""
        name = found["metadata"]["name"]
        if (resource, namespace, name) in self._objects:
            raise already_exists(resource.qualified, name)
        return self._add(resource, namespace, found, (manager, "Update"), found)

    def update(self, resource: Resource, namespace: str, found: Object, manager: str) -> Object:
        """Replace an object; refused with 409 if `found` is older than what is there."""
        name = found["metadata"]["name"]
        live = self.get(resource, namespace, name)
        version = found["metadata"].get("resourceVersion")
        if version is not None and version != live["metadata"]["resourceVersion"]:
            message = (
                f'Operation cannot be fulfilled on {resource.qualified} "{name}": the object has been modified; '
                "please apply your changes to the latest version and try again"
            )
            raise conflict(resource.qualified, name, message)
        owners = self._managers(live)
        fields.changed(live, found, owners, f"{manager}/Update")
        return self._write(resource, namespace, live, found, owners)

    def change(
        self, resource: Resource, namespace: str, name: str, edit: Callable[[Object], Any], manager: str
    ) -> None:
        """Edit an object in place, as a controller does; nothing happens if it is gone."""
        found = self.find(resource, namespace, name)
        if found is not None:
            edit(found)
            self.update(resource, namespace, found, manager)

    def apply(
        self, resource: Resource, namespace: str, config: Object, manager: str, check: Callable[[Object], None], *,
        force: bool,
    ) -> tuple[Object, bool]:  # fmt: skip
        """Server-side apply; return the object, and whether it is new.

        :param check: fills in defaults, and refuses what is not allowed, before anything is written.
        """
        name = config["metadata"]["name"]
        live = self.find(resource, namespace, name)
        if live is None:
            made = copy.deepcopy(config)
            check(made)
            return self._add(resource, namespace, made, (manager, "Apply"), config), True
        owners = self._managers(live)
        try:
            merged = fields.apply(live, config, owners, f"{manager}/Apply", force=force)
        except fields.Conflict as clash:
            causes = [
                {
                    "reason": "FieldManagerConflict",
                    "message": f'conflict with "{owner.split("/")[0]}" using {resource.api_version}',
                    "field": fields.decode(path),
                }
                for owner, path in clash.found
            ]
            listed = "\n".join(f"- {cause['field']}" for cause in causes)
            plural = "conflict" if len(causes) == 1 else "conflicts"
            message = f"Apply failed with {len(causes)} {plural}: {causes[0]['message']}:\n{listed}"
            raise conflict(resource.qualified, name, message, causes) from None
        check(merged)
        return self._write(resource, namespace, live, merged, owners), False

    def delete(self, resource: Resource, namespace: str, name: str) -> Object:
        """Remove an object; one that is waited for (a pod) is marked first, and removed when it has ended."""
        found = self.get(resource, namespace, name)
        if resource.kind == "Pod" and "deletionTimestamp" not in found["metadata"]:
            grace = found["spec"].get("terminationGracePeriodSeconds", 30)
            found["metadata"] |= {"deletionTimestamp": now(), "deletionGracePeriodSeconds": grace}
            return self._write(resource, namespace, self.get(resource, namespace, name), found, self._managers(found))
        if resource.kind == "Pod":
            return found
        return self.remove(resource, namespace, name)

    def remove(self, resource: Resource, namespace: str, name: str) -> Object:
        """Remove an object at once."""
        found = self._objects.pop((resource, namespace, name))
        self._owners.pop(found["metadata"]["uid"], None)
        self._tell("DELETED", resource, found)
        return copy.deepcopy(found)

    async def watch(self, resource: Resource, since: int, until: float) -> AsyncIterator[Change]:
        """Yield the changes after a version, until the loop's clock says `until`.

        Refused with 410 if the version is too old.
        """
        loop = asyncio.get_running_loop()
        if self._history and since + 1 < self._history[0].version and len(self._history) == _HISTORY:
            raise Refusal(410, f"too old resource version: {since} ({self._history[0].version})", reason="Expired")
        while True:
            for change in [c for c in self._history if c.version > since]:
                since = change.version
                if change.resource == resource:
                    yield change
            left = until - loop.time()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(self._news.wait(), left)
            except TimeoutError:
                return

    async def news(self, patience: float) -> None:
        """Return at the next change of anything, or after `patience` seconds."""
        try:
            await asyncio.wait_for(self._news.wait(), patience)
        except TimeoutError:
            return

    def _add(
        self, resource: Resource, namespace: str, found: Object, manager: tuple[str, str], managed: Object
    ) -> Object:
        found = copy.deepcopy(found)
        found["metadata"] |= {"uid": str(uuid.uuid4()), "creationTimestamp": now(), "generation": 1}
        if resource.namespaced:
            found["metadata"]["namespace"] = namespace
        self._owners[found["metadata"]["uid"]] = {manager: {path for path, _ in fields.leaves(managed)}}
        return self._put(resource, namespace, found, "ADDED")

    def _write(
        self, resource: Resource, namespace: str, live: Object, found: Object, owners: dict[str, set[Path]]
    ) -> Object:
        managers = {(name.rsplit("/", 1)[0], name.rsplit("/", 1)[1]): paths for name, paths in owners.items() if paths}
        same = _content(live) == _content(found)
        uid = live["metadata"]["uid"]
        if same and managers == self._owners[uid]:
            return live
        if live.get("spec") != found.get("spec"):
            found["metadata"]["generation"] = live["metadata"]["generation"] + 1
        self._owners[uid] = managers
        return self._put(resource, namespace, found, "MODIFIED")

    def _put(self, resource: Resource, namespace: str, found: Object, kind: str) -> Object:
        self._objects[(resource, namespace, found["metadata"]["name"])] = found
        found["apiVersion"], found["kind"] = resource.api_version, resource.kind
        found["metadata"]["managedFields"] = [
            {
                "manager": manager, "operation": operation, "apiVersion": resource.api_version, "time": now(),
                "fieldsType": "FieldsV1", "fieldsV1": fields.encode(paths),
            }
            for (manager, operation), paths in sorted(self._owners[found["metadata"]["uid"]].items())
        ]  # fmt: skip
        self._tell(kind, resource, found)
        return copy.deepcopy(found)

    def _tell(self, kind: str, resource: Resource, found: Object) -> None:
        self.version += 1
        found["metadata"]["resourceVersion"] = str(self.version)
        self._history.append(Change(self.version, kind, resource, copy.deepcopy(found)))
        self._news.set()
        self._news = asyncio.Event()

    def _managers(self, found: Object) -> dict[str, set[Path]]:
        noted = self._owners[found["metadata"]["uid"]]
        return {f"{manager}/{operation}": set(paths) for (manager, operation), paths in noted.items()}


def _content(found: Object) -> str:
    metadata = {
        key: value for key, value in found["metadata"].items() if key not in {"managedFields", "resourceVersion"}
    }
    return json.dumps({**found, "metadata": metadata}, sort_keys=True)
