"""What a rollout's state is taken for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from slipway.kubernetes.rollout import Rollout, assess, named_failure

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


def deployment(**status: Any) -> dict[str, Any]:
    return {"metadata": {"generation": 2}, "spec": {"replicas": 2}, "status": {"observedGeneration": 2, **status}}


def pod(waiting: str = "", *, message: str = "", ended: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    state = {"waiting": {"reason": waiting, "message": message}} if waiting else {"running": {}}
    status = {"name": "scoring", "state": state, "lastState": {"terminated": ended} if ended else {}}
    return {"metadata": {"name": "churn-1", "creationTimestamp": NOW.isoformat(), **more},
            "status": {"containerStatuses": [status]}}  # fmt: skip


def look(deployment: dict[str, Any], *pods: dict[str, Any], events: Any = (), patience: float = 60) -> Rollout:
    return assess(deployment, pods, events, now=NOW, patience=patience)


def test_complete_only_when_all_are_new_and_available() -> None:
    done = {"replicas": 2, "updatedReplicas": 2, "availableReplicas": 2}
    assert look(deployment(**done)).state == "complete"
    assert look(deployment(**done | {"availableReplicas": 1})).state == "progressing"
    assert look(deployment(**done | {"replicas": 3})).state == "progressing", "an old pod is still there"
    assert look(deployment(**done, observedGeneration=1)).state == "progressing", "of the change before"
    assert look({**deployment(), "status": {}}).state == "progressing"


@pytest.mark.parametrize(
    "reason", ["ImagePullBackOff", "InvalidImageName", "CreateContainerConfigError", "ErrImageNeverPull"]
)
def test_what_no_waiting_mends_fails_at_once(reason: str) -> None:
    found = look(deployment(), pod(reason, message="because\nof this"))
    assert found.state == "failed"
    assert f"churn-1 is in {reason} (because of this)" in found.message


def test_a_first_pull_that_fails_is_tried_again() -> None:
    found = look(deployment(), pod("ErrImagePull"))
    assert found == Rollout("progressing", "0 of 2 pods are ready (ErrImagePull)")


def test_a_crash_is_told_with_its_status_and_the_log_of_the_start_before() -> None:
    found = look(deployment(), pod("CrashLoopBackOff", ended={"exitCode": 137, "reason": "OOMKilled"}))
    assert found.crashed
    assert found.pod == "churn-1"
    assert "ended with status 137, OOMKilled" in found.message
    sentence = named_failure("Deployment x", found, ["loading", "Killed", ""])
    assert sentence.endswith("its last log line: Killed.")


def test_a_pod_that_is_being_removed_does_not_count() -> None:
    assert look(deployment(), pod("CrashLoopBackOff", deletionTimestamp="x")).state == "progressing"


def test_unschedulable_fails_after_the_patience() -> None:
    stuck = pod()
    stuck["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available",
         "lastTransitionTime": "2026-01-31T11:59:00Z"}
    ]  # fmt: skip
    assert look(deployment(), stuck, patience=61).state == "progressing"
    assert "(0/3 nodes are available)" in look(deployment(), stuck, patience=60).message


def test_refused_pods_and_passed_deadlines_are_named() -> None:
    refused = [{"type": "ReplicaFailure", "status": "True", "message": 'pods "a" is forbidden: exceeded quota: q'}]
    assert "quota does not admit" in look(deployment(conditions=refused)).message
    late = [{"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}]
    assert "not ready in time" in look(deployment(conditions=late)).message
    event = {"involvedObject": {"name": "churn-1"}, "type": "Warning", "reason": "Unhealthy", "message": "HTTP 503",
             "lastTimestamp": "2026-01-31T11:59:00Z"}  # fmt: skip
    assert "(Unhealthy: HTTP 503)" in look(deployment(conditions=late), pod(), events=[event]).message
