"""What the state of a Deployment and its pods means: goes on, complete, or failed, and why. Pure functions.

Objects are as the API server writes them in JSON. Where the facts come from:
https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status and
https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from slipway.kubernetes.manifests import CONTAINER

__all__ = ["Rollout", "assess", "named_failure"]

Object = dict[str, Any]

# Reasons for which a container waits, that no waiting mends; each with what to do about it.
_HOPELESS = {
    "ImagePullBackOff": "check that the image is in the registry and that the nodes may pull it (image_pull_secret)",
    "InvalidImageName": "correct the image's name",
    "ErrImageNeverPull": "load the image on the nodes, or push it to a registry",
    "CreateContainerConfigError": "correct what the message names",
    "CreateContainerError": "correct what the message names",
    "RunContainerError": "correct what the message names",
    "CrashLoopBackOff": "see the log lines, and give it more memory if it was killed for that",
}


@dataclass(frozen=True)
class Rollout:
    """How a rollout stands.

    :param state: whether it goes on, is complete, or has failed.
    :param message: in words; of a failure, what is wrong and what to do.
    :param pod: the pod whose log tells more, if there is one.
    :param crashed: whether that pod's container has ended, so that the log of its previous start counts.
    """

    state: Literal["progressing", "complete", "failed"]
    message: str
    pod: str | None = None
    crashed: bool = False


def assess(
    deployment: Object, pods: Iterable[Object], events: Iterable[Object], *, now: datetime, patience: float
) -> Rollout:
    """Return how the rollout of a Deployment stands.

    :param pods: the Deployment's pods.
    :param events: the events of those pods.
    :param now: the time, aware.
    :param patience: for how many seconds a pod may be unschedulable: a cluster that scales adds a node meanwhile.
    """
    present = [pod for pod in pods if not pod["metadata"].get("deletionTimestamp")]
    status = deployment.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or []}
    wanted = deployment["spec"].get("replicas", 1)
    if status.get("observedGeneration", 0) >= deployment["metadata"]["generation"]:
        ready = min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0))
        if ready >= wanted and status.get("replicas", 0) == status.get("updatedReplicas", 0):
            return Rollout("complete", f"{ready} of {wanted} pods are ready")
        refused = conditions.get("ReplicaFailure", {})
        if refused.get("status") == "True":
            return Rollout("failed", _refused(str(refused.get("message", ""))))
        for pod in present:
            if failure := _hopeless(pod) or _unschedulable(pod, now, patience):
                return failure
        progressing = conditions.get("Progressing", {})
        if progressing.get("status") == "False":
            return _too_slow(present, list(events))
    return Rollout("progressing", _summary(status, wanted, present))


def named_failure(what: str, rollout: Rollout, log: list[str]) -> str:
    """Return a failure in one sentence: what failed, why, and the last thing that the pod said.

    :param what: the deployment, in words.
    :param log: the last lines of the pod's log.
    """
    said = next((line.strip() for line in reversed(log) if line.strip()), "")
    return f"{what} does not come up: {rollout.message}" + (f"; its last log line: {said[:300]}" if said else "") + "."


def _hopeless(pod: Object) -> Rollout | None:
    name = pod["metadata"]["name"]
    for container in (pod.get("status") or {}).get("containerStatuses") or []:
        waiting = (container.get("state") or {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason not in _HOPELESS:
            continue
        if reason == "CrashLoopBackOff":
            detail = _ended((container.get("lastState") or {}).get("terminated") or {})
        else:
            detail = " ".join(str(waiting.get("message", "")).split())
        words = f"pod {name} is in {reason}" + (f" ({detail})" if detail else "") + f": {_HOPELESS[reason]}"
        return Rollout("failed", words, name, crashed=reason == "CrashLoopBackOff")
    return None


def _ended(terminated: Object) -> str:
    if not terminated:
        return ""
    reason = terminated.get("reason", "Error")
    return f"its process ended with status {terminated.get('exitCode')}, {reason}"


def _unschedulable(pod: Object, now: datetime, patience: float) -> Rollout | None:
    for condition in (pod.get("status") or {}).get("conditions") or []:
        if condition["type"] != "PodScheduled" or condition.get("reason") != "Unschedulable":
            continue
        since = condition.get("lastTransitionTime") or pod["metadata"]["creationTimestamp"]
        if (now - datetime.fromisoformat(since)).total_seconds() >= patience:
            name, words = pod["metadata"]["name"], " ".join(str(condition.get("message", "")).split())
            told = f"pod {name} is unschedulable ({words}): ask for less in resources, or add a node that fits"
            return Rollout("failed", told)
    return None


def _refused(message: str) -> str:
    words = " ".join(message.split())
    if "exceeded quota" in words:
        return f"the namespace's quota does not admit its pods ({words}): ask for less, or have the quota raised"
    return f"its pods are not admitted ({words}): change what the message names"


def _too_slow(pods: list[Object], events: list[Object]) -> Rollout:
    for pod in pods:
        name = pod["metadata"]["name"]
        told = [e for e in events if e["involvedObject"].get("name") == name and e.get("type") == "Warning"]
        if told:
            last = max(told, key=lambda e: str(e.get("lastTimestamp") or e.get("eventTime") or ""))
            words = " ".join(str(last.get("message", "")).split())
            return Rollout(
                "failed",
                f"pod {name} was not ready in time ({last.get('reason')}: {words}): see its log",
                name,
                crashed=_was_restarted(pod),
            )
    name = pods[0]["metadata"]["name"] if pods else None
    return Rollout("failed", "its pods were not ready in time: see their events with kubectl describe", name)


def _was_restarted(pod: Object) -> bool:
    statuses = (pod.get("status") or {}).get("containerStatuses") or []
    return any(
        c.get("name") == CONTAINER and c.get("restartCount") and "running" not in (c.get("state") or {})
        for c in statuses
    )


def _summary(status: Object, wanted: int, pods: list[Object]) -> str:
    waits = {
        str(waiting["reason"])
        for pod in pods
        for container in (pod.get("status") or {}).get("containerStatuses") or []
        if (waiting := (container.get("state") or {}).get("waiting")) and waiting.get("reason")
    }
    words = f"{status.get('availableReplicas', 0)} of {wanted} pods are ready"
    return f"{words} ({', '.join(sorted(waits))})" if waits else words
