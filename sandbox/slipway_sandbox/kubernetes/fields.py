"""Who manages which field: server-side apply, its conflicts, and the `managedFields` that clients see.

A path is a tuple of steps: `f:<field>`, or `k:<keys as JSON>` for an item of a list that has keys. Lists without keys
and the maps named below are one value, as in the published schemas (`x-kubernetes-list-type`, `-map-type`).

Source: https://kubernetes.io/docs/reference/using-api/server-side-apply/
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

__all__ = ["Conflict", "Object", "Path", "apply", "changed", "decode", "encode", "leaves"]

Object = dict[str, Any]
Path = tuple[str, ...]

_LIST_KEYS: dict[str, tuple[str, ...]] = {
    "containers": ("name",), "initContainers": ("name",), "volumes": ("name",), "env": ("name",),
    "volumeMounts": ("mountPath",), "imagePullSecrets": ("name",), "conditions": ("type",), "ownerReferences": ("uid",),
    "topologySpreadConstraints": ("topologyKey", "whenUnsatisfiable"),
}  # fmt: skip
_ATOMIC_MAPS = {"selector", "labelSelector", "nodeSelector", "scaleTargetRef", "secretRef"}
_UNMANAGED = {
    ("f:apiVersion",), ("f:kind",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace"), ("f:metadata", "f:uid"),
    ("f:metadata", "f:resourceVersion"), ("f:metadata", "f:generation"), ("f:metadata", "f:creationTimestamp"),
}  # fmt: skip


class Conflict(Exception):
    """Fields that somebody else manages with another value: manager and path of each."""

    def __init__(self, found: list[tuple[str, Path]]) -> None:
        super().__init__(found)
        self.found = found


def _keys(name: str, items: list[Any]) -> tuple[str, ...] | None:
    if name == "ports" and items and isinstance(items[0], dict):
        return ("containerPort", "protocol") if "containerPort" in items[0] else ("port", "protocol")
    return _LIST_KEYS.get(name)


def _step(keys: tuple[str, ...], item: Object) -> str:
    values = {key: item.get(key, "TCP" if key == "protocol" else None) for key in sorted(keys)}
    return "k:" + json.dumps(values, separators=(",", ":"))


def leaves(value: Any, path: Path = (), name: str = "") -> Iterator[tuple[Path, Any]]:
    """Yield every managed value of an object with its path."""
    if path in _UNMANAGED or path[:2] == ("f:metadata", "f:managedFields"):
        return
    if isinstance(value, dict) and value and name not in _ATOMIC_MAPS:
        for key, inner in value.items():
            yield from leaves(inner, (*path, f"f:{key}"), key)
    elif isinstance(value, list) and value and (keys := _keys(name, value)):
        for item in value:
            at = (*path, _step(keys, item))
            yield (*at, "."), None
            for key, inner in item.items():
                yield from leaves(inner, (*at, f"f:{key}"), key)
    else:
        yield path, value


def apply(live: Object, config: Object, owners: dict[str, set[Path]], manager: str, *, force: bool) -> Object:
    """Return the object after `manager` applied `config`; `owners` is changed to who manages what then.

    :raises Conflict: if others manage a field with another value, and `force` is not given.
    """
    wanted, there = dict(leaves(config)), dict(leaves(live))
    clashes = [
        (other, path)
        for other, paths in owners.items()
        if other != manager
        for path in sorted(paths & wanted.keys())
        if there.get(path) != wanted[path]
    ]
    if clashes and not force:
        raise Conflict(clashes)
    for other, path in clashes:
        owners[other].discard(path)
    merged = copy.deepcopy(live)
    kept = set().union(*(paths for other, paths in owners.items() if other != manager))
    for path in owners.get(manager, set()) - wanted.keys() - kept:
        _remove(merged, path)
    _merge(merged, config)
    owners[manager] = set(wanted)
    return merged


def changed(old: Object, new: Object, owners: dict[str, set[Path]], manager: str) -> None:
    """Note in `owners` that `manager` made `new` of `old`: what it changed is its own, what it removed nobody's."""
    before, after = dict(leaves(old)), dict(leaves(new))
    taken = {path for path, value in after.items() if path not in before or before[path] != value}
    gone = before.keys() - after.keys()
    for other, paths in owners.items():
        owners[other] = paths - gone - taken
    if taken:
        owners[manager] = owners.get(manager, set()) | taken


def _merge(target: Object, config: Object) -> None:
    for key, value in config.items():
        found = target.get(key)
        if isinstance(value, dict) and isinstance(found, dict) and key not in _ATOMIC_MAPS:
            _merge(found, value)
        elif isinstance(value, list) and isinstance(found, list) and (keys := _keys(key, value or found)):
            by_step = {_step(keys, item): item for item in found}
            for item in value:
                at = _step(keys, item)
                if at in by_step:
                    _merge(by_step[at], item)
                else:
                    found.append(copy.deepcopy(item))
        else:
            target[key] = copy.deepcopy(value)


def _remove(target: Any, path: Path) -> None:
    """Take one value out; `.` at the end of a path is the list's item as a whole."""
    steps = path[:-1] if path[-1] == "." else path
    for step in steps[:-1]:
        at = _index(target, step)
        if at is None:
            return
        target = target[at]
    at = _index(target, steps[-1])
    if at is not None:
        del target[at]


def _index(target: Any, step: str) -> Any:
    """Return where a step leads to in a map or list; None if nothing is there."""
    if step.startswith("f:"):
        return step[2:] if isinstance(target, dict) and step[2:] in target else None
    wanted = json.loads(step[2:])
    return next((i for i, item in enumerate(target) if _matches(item, wanted)), None)


def _matches(item: Object, wanted: Object) -> bool:
    return all(item.get(key, "TCP" if key == "protocol" else None) == value for key, value in wanted.items())


def encode(paths: set[Path]) -> Object:
    """Return paths as `fieldsV1`."""
    tree: Object = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
    return tree


def decode(path: Path) -> str:
    """Return a path as messages write it: `.spec.template.spec.containers[name="scoring"].image`."""
    text = ""
    for step in path:
        if step.startswith("f:"):
            text += f".{step[2:]}"
        elif step.startswith("k:"):
            text += "[" + ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(step[2:]).items()) + "]"
    return text
