"""The controllers: Deployments make ReplicaSets, those make Pods, Services get the addresses of ready Pods.

Each reconciles all objects whenever anything changed, as a controller may. Source of what they do and write:
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
"""

from __future__ import annotations

import copy
import hashlib
import json
import secrets
import time
from typing import Any

from slipway_sandbox.kubernetes.admission import check_pod_security
from slipway_sandbox.kubernetes.faults import Faults
from slipway_sandbox.kubernetes.fields import Object
from slipway_sandbox.kubernetes.resources import RESOURCES
from slipway_sandbox.kubernetes.selectors import selects
from slipway_sandbox.kubernetes.status import Refusal, forbidden, not_found
from slipway_sandbox.kubernetes.store import Store, now, owned_by

__all__ = ["Controllers", "condition", "is_ready"]

NAMESPACES = RESOURCES[("", "v1", "namespaces")]
PODS = RESOURCES[("", "v1", "pods")]
SERVICES = RESOURCES[("", "v1", "services")]
DEPLOYMENTS = RESOURCES[("apps", "v1", "deployments")]
REPLICASETS = RESOURCES[("apps", "v1", "replicasets")]
SCALERS = RESOURCES[("autoscaling", "v2", "horizontalpodautoscalers")]
SLICES = RESOURCES[("discovery.k8s.io", "v1", "endpointslices")]
_MANAGER = "kube-controller-manager"


def condition(found: Object, kind: str, value: str, reason: str, message: str = "") -> None:
    """Set a condition in an object's status; its time changes with its value."""
    conditions = found.setdefault("status", {}).setdefault("conditions", [])
    old = next((c for c in conditions if c["type"] == kind), None)
    since = old["lastTransitionTime"] if old and old["status"] == value else now()
    new = {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": since}
    found["status"]["conditions"] = [c for c in conditions if c["type"] != kind] + [new]


def is_ready(pod: Object) -> bool:
    """Whether a pod is to get traffic."""
    conditions = pod.get("status", {}).get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return ready and "deletionTimestamp" not in pod["metadata"]


class Controllers:
    """All controllers of a cluster."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self.store = store
        self.faults = faults
        self._progress: dict[str, tuple[Any, float]] = {}  # by uid: what was last reached, and when

    def reconcile(self) -> None:
        """Bring everything one step nearer to what is wanted."""
        self._collect_garbage()
        for deployment in self.store.all(DEPLOYMENTS):
            self._deployment(deployment)
        for replicaset in self.store.all(REPLICASETS):
            self._replicaset(replicaset)
        for scaler in self.store.all(SCALERS):
            self._scaler(scaler)
        for service in self.store.all(SERVICES):
            self._service(service)

    def _collect_garbage(self) -> None:
        for resource, owners in ((REPLICASETS, DEPLOYMENTS), (PODS, REPLICASETS), (SLICES, SERVICES)):
            there = {owner["metadata"]["uid"] for owner in self.store.all(owners)}
            for found in self.store.all(resource):
                owned = found["metadata"].get("ownerReferences", [])
                if owned and not any(owner["uid"] in there for owner in owned):
                    self.store.delete(resource, found["metadata"]["namespace"], found["metadata"]["name"])

    def _deployment(self, deployment: Object) -> None:
        space, name, uid = (deployment["metadata"][key] for key in ("namespace", "name", "uid"))
        template, wanted = deployment["spec"]["template"], deployment["spec"]["replicas"]
        digest = hashlib.sha256(json.dumps(template, sort_keys=True).encode()).hexdigest()[:10]
        owned = [r for r in self.store.all(REPLICASETS, space) if owned_by(r, uid)]
        current = next((r for r in owned if r["metadata"]["labels"]["pod-template-hash"] == digest), None)
        if current is None:
            current = self._make_replicaset(deployment, digest, len(owned) + 1)
            owned.append(current)
        self._roll(space, current, [r for r in owned if r is not current], wanted)

        pods = [p for r in owned for p in self._pods(r)]
        new = [p for p in pods if owned_by(p, current["metadata"]["uid"])]
        ready, updated = sum(map(is_ready, pods)), sum(map(is_ready, new))
        refused = current.get("status", {}).get("conditions", [])
        revision = current["metadata"]["annotations"]["deployment.kubernetes.io/revision"]
        late = self._is_late(deployment, (len(new), updated, revision))

        def edit(found: Object) -> None:
            found["metadata"].setdefault("annotations", {})["deployment.kubernetes.io/revision"] = revision
            status = {
                "observedGeneration": deployment["metadata"]["generation"], "replicas": len(pods),
                "updatedReplicas": len(new), "readyReplicas": ready, "availableReplicas": ready,
                "unavailableReplicas": max(0, wanted - ready),
            }  # fmt: skip
            conditions = found.get("status", {}).get("conditions", [])
            found["status"] = {**status, "conditions": [c for c in conditions if c["type"] != "ReplicaFailure"]}
            enough = ready >= wanted
            reason = "MinimumReplicasAvailable" if enough else "MinimumReplicasUnavailable"
            condition(found, "Available", str(enough), reason)
            if updated >= wanted and len(pods) == len(new):
                condition(found, "Progressing", "True", "NewReplicaSetAvailable")
            elif late:
                told = f'ReplicaSet "{current["metadata"]["name"]}" has timed out progressing.'
                condition(found, "Progressing", "False", "ProgressDeadlineExceeded", told)
            else:
                condition(found, "Progressing", "True", "ReplicaSetUpdated")
            found["status"]["conditions"] += [c for c in refused if c["type"] == "ReplicaFailure"]

        self.store.change(DEPLOYMENTS, space, name, edit, _MANAGER)

    def _is_late(self, deployment: Object, reached: Any) -> bool:
        uid = deployment["metadata"]["uid"]
        if self._progress.get(uid, (None, 0.0))[0] != reached:
            self._progress[uid] = (reached, time.monotonic())
        patience = self.faults.progress_seconds or deployment["spec"]["progressDeadlineSeconds"]
        return time.monotonic() - self._progress[uid][1] > patience

    def _roll(self, space: str, current: Object, old: list[Object], wanted: int) -> None:
        """Scale the new ReplicaSet up to at most one more than wanted in all, the old ones down as it gets ready."""
        left = sum(r["spec"]["replicas"] for r in old)
        target = min(wanted, wanted + 1 - left) if left else wanted
        self._scale(space, current, max(target, min(current["spec"]["replicas"], wanted)))
        spare = sum(map(is_ready, self._pods(current))) + left - wanted
        for replicaset in old:
            step = min(max(spare, 0), replicaset["spec"]["replicas"])
            self._scale(space, replicaset, replicaset["spec"]["replicas"] - step)
            spare -= step

    def _scale(self, space: str, replicaset: Object, replicas: int) -> None:
        if replicaset["spec"]["replicas"] != replicas:
            replicaset["spec"]["replicas"] = replicas
            self.store.change(
                REPLICASETS, space, replicaset["metadata"]["name"],
                lambda found: found["spec"].update(replicas=replicas), _MANAGER,
            )  # fmt: skip

    def _make_replicaset(self, deployment: Object, digest: str, revision: int) -> Object:
        metadata, spec = deployment["metadata"], copy.deepcopy(deployment["spec"])
        labels = {**spec["template"]["metadata"]["labels"], "pod-template-hash": digest}
        spec["template"]["metadata"]["labels"] = labels
        replicaset = {
            "metadata": {
                "name": f"{metadata['name']}-{digest}", "labels": labels,
                "annotations": {"deployment.kubernetes.io/revision": str(revision)},
                "ownerReferences": [_owner(deployment, "apps/v1", "Deployment")],
            },
            "spec": {
                "replicas": 0, "template": spec["template"],
                "selector": {"matchLabels": {**spec["selector"]["matchLabels"], "pod-template-hash": digest}},
            },
        }  # fmt: skip
        return self.store.create(REPLICASETS, metadata["namespace"], replicaset, _MANAGER)

    def _pods(self, replicaset: Object) -> list[Object]:
        space, uid = replicaset["metadata"]["namespace"], replicaset["metadata"]["uid"]
        return [p for p in self.store.all(PODS, space) if owned_by(p, uid) and "deletionTimestamp" not in p["metadata"]]

    def _replicaset(self, replicaset: Object) -> None:
        space, name = replicaset["metadata"]["namespace"], replicaset["metadata"]["name"]
        pods = self._pods(replicaset)
        refusal = None
        try:
            for _ in range(replicaset["spec"]["replicas"] - len(pods)):
                self._make_pod(replicaset)
        except Refusal as refused:
            refusal = str(refused)
        # Those go first that serve least.
        for pod in sorted(pods, key=is_ready)[: max(0, len(pods) - replicaset["spec"]["replicas"])]:
            self.store.delete(PODS, space, pod["metadata"]["name"])

        def edit(found: Object) -> None:
            found["status"] = {"replicas": len(pods), "readyReplicas": sum(map(is_ready, pods)), "conditions": []}
            if refusal:
                condition(found, "ReplicaFailure", "True", "FailedCreate", refusal)

        self.store.change(REPLICASETS, space, name, edit, _MANAGER)

    def _make_pod(self, replicaset: Object) -> None:
        space, template = replicaset["metadata"]["namespace"], replicaset["spec"]["template"]
        name = f"{replicaset['metadata']['name'][:57]}-{secrets.token_hex(3)[:5]}"
        pod = {
            "metadata": {
                "name": name, "labels": template["metadata"]["labels"],
                "annotations": template["metadata"].get("annotations", {}),
                "ownerReferences": [_owner(replicaset, "apps/v1", "ReplicaSet")],
            },
            "spec": copy.deepcopy(template["spec"]),
            "status": {"phase": "Pending", "conditions": [], "containerStatuses": []},
        }  # fmt: skip
        if self.faults.quota:
            raise forbidden("pods", name, self.faults.quota)
        namespace = self.store.find(NAMESPACES, "", space)
        if namespace is None:
            raise not_found("namespaces", space)
        check_pod_security(namespace, pod)
        self.store.create(PODS, space, pod, _MANAGER)

    def _scaler(self, scaler: Object) -> None:
        """With no metrics to go by, only the bounds count."""
        space, spec = scaler["metadata"]["namespace"], scaler["spec"]
        target = self.store.find(DEPLOYMENTS, space, spec["scaleTargetRef"]["name"])
        if target is None or not target["spec"]["replicas"]:
            return
        replicas = max(spec.get("minReplicas", 1), min(spec["maxReplicas"], target["spec"]["replicas"]))
        name = target["metadata"]["name"]
        self.store.change(DEPLOYMENTS, space, name, lambda found: found["spec"].update(replicas=replicas), _MANAGER)
        status = {"currentReplicas": replicas, "desiredReplicas": replicas}
        self.store.change(SCALERS, space, scaler["metadata"]["name"], lambda f: f.update(status=status), _MANAGER)

    def _service(self, service: Object) -> None:
        space, name = service["metadata"]["namespace"], service["metadata"]["name"]
        chosen = service["spec"].get("selector") or {}
        pods = [p for p in self.store.all(PODS, space) if selects(chosen, p["metadata"].get("labels"))]
        endpoints = [
            {
                "addresses": [pod["status"]["podIP"]],
                "conditions": {
                    "ready": is_ready(pod), "serving": is_ready(pod),
                    "terminating": "deletionTimestamp" in pod["metadata"],
                },
                "targetRef": {"kind": "Pod", "namespace": space, "name": pod["metadata"]["name"]},
            }
            for pod in pods
            if pod["status"].get("podIP")
        ]  # fmt: skip
        if self.store.find(SLICES, space, f"{name}-slice") is None:
            found = {
                "metadata": {
                    "name": f"{name}-slice", "labels": {"kubernetes.io/service-name": name},
                    "ownerReferences": [_owner(service, "v1", "Service")],
                },
                "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}], "endpoints": [],
            }  # fmt: skip
            self.store.create(SLICES, space, found, _MANAGER)
        self.store.change(SLICES, space, f"{name}-slice", lambda f: f.update(endpoints=endpoints), _MANAGER)


def _owner(found: Object, api_version: str, kind: str) -> dict[str, Any]:
    metadata = found["metadata"]
    return {
        "apiVersion": api_version, "kind": kind, "name": metadata["name"], "uid": metadata["uid"],
        "controller": True, "blockOwnerDeletion": True,
    }  # fmt: skip
