"""The resources that the API server has, and how it tells its clients of them (discovery)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

__all__ = ["RESOURCES", "Resource", "api_versions", "group_list", "resource_list"]

_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Resource:
    """One kind of object."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ("status",)

    @property
    def api_version(self) -> str:
        """`apps/v1`, or `v1` of the core group."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """What messages call it: `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_ALL = (
    Resource("", "v1", "namespaces", "Namespace", namespaced=False, short=("ns",)),
    Resource("", "v1", "pods", "Pod", short=("po",), subresources=("status", "log", "proxy")),
    Resource("", "v1", "services", "Service", short=("svc",), subresources=("status", "proxy")),
    Resource("", "v1", "events", "Event", short=("ev",), subresources=()),
    Resource("apps", "v1", "deployments", "Deployment", short=("deploy",), subresources=("status", "scale")),
    Resource("apps", "v1", "replicasets", "ReplicaSet", short=("rs",), subresources=("status", "scale")),
    Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", short=("hpa",)),
    Resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", subresources=()),
    Resource("networking.k8s.io", "v1", "ingresses", "Ingress", short=("ing",)),
    Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", short=("pdb",)),
)
RESOURCES = {(resource.group, resource.version, resource.plural): resource for resource in _ALL}


def api_versions() -> dict[str, Any]:
    """The answer to `GET /api`."""
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}


def group_list() -> dict[str, Any]:
    """The answer to `GET /apis`."""
    groups = []
    for group, version in sorted({(r.group, r.version) for r in _ALL if r.group}):
        at = {"groupVersion": f"{group}/{version}", "version": version}
        groups.append({"name": group, "versions": [at], "preferredVersion": at})
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def resource_list(group: str, version: str) -> dict[str, Any] | None:
    """The answer to `GET /api/v1` and `GET /apis/<group>/<version>`; None if there is nothing."""
    entries: list[dict[str, Any]] = []
    for resource in _ALL:
        if (resource.group, resource.version) != (group, version):
            continue
        common = {"singularName": "", "namespaced": resource.namespaced, "kind": resource.kind}
        entries.append({"name": resource.plural, **common, "verbs": list(_VERBS), "shortNames": list(resource.short)})
        entries.extend(
            {"name": f"{resource.plural}/{sub}", **common, "verbs": ["get", "patch", "update"]}
            for sub in resource.subresources
        )
    if not entries:
        return None
    at = f"{group}/{version}" if group else version
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": at, "resources": entries}
