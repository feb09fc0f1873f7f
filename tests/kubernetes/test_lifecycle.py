"""Deploy, redeploy, fail, restore, undeploy: the real client against the fake cluster's real wire protocol."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from typing import Any

import pytest

from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.kubernetes import KubernetesEndpointHook
from slipway.hooks.kubernetes_api import KubernetesApi
from slipway.kubernetes.manifests import endpoint_labels
from slipway.targets import Served
from slipway_sandbox.kubernetes import ApiFault, FakeCluster
from tests import forked
from tests.kubernetes.steps import BODY, PLACE, go_live, rollout, workload

SINGLE = {"min_replicas": 1, "max_replicas": 2}
SCALING = {"min_replicas": 2, "max_replicas": 4}
KINDS = ("Service", "PodDisruptionBudget", "HorizontalPodAutoscaler", "Ingress", "Deployment")


def versions(hook: KubernetesEndpointHook, endpoint: str = "churn") -> dict[str, str]:
    """Every object of an endpoint, with its resourceVersion."""
    return {
        f"{kind}/{found['metadata']['name']}": found["metadata"]["resourceVersion"]
        for kind in KINDS
        for found in hook.api.find_all(kind, endpoint_labels(endpoint))
    }


def test_a_deployment_answers_before_it_serves_and_serves_when_it_is_live(hook: KubernetesEndpointHook) -> None:
    one = workload("1", autoscaling=SCALING, ingress={"host": "churn.example"})
    hook.put_workload(one)
    assert "2 of 2 pods are ready" in rollout(one)["complete"]
    assert hook.invoke("churn", BODY, deployment=one.deployment) == ["1", "1"]
    assert hook.served("churn") == Served("churn", deployments=frozenset({one.deployment}))
    hook.set_live("churn", one.deployment)
    assert hook.invoke("churn", BODY) == ["1", "1"]
    found = hook.served("churn")
    assert found == Served("churn", model="churn", live=one.deployment, deployments=frozenset({one.deployment}))
    assert {name.partition("/")[0] for name in versions(hook)} == set(KINDS)

    before = versions(hook)
    hook.put_workload(one)
    hook.set_live("churn", one.deployment)
    assert versions(hook) == before, "the same deploy changes nothing"


def test_a_switch_keeps_the_old_pods_until_they_are_retired(hook: KubernetesEndpointHook) -> None:
    one, two = workload("1", ingress={"host": "a.example"}), workload("2")
    go_live(hook, one)
    go_live(hook, two)
    assert hook.invoke("churn", BODY) == ["2", "2"]
    assert hook.api.find("Ingress", "churn") is None, "the second deployment wants none"
    found = hook.served("churn")
    assert found is not None
    assert (found.live, found.previous) == (two.deployment, one.deployment)

    hook.set_live("churn", one.deployment)  # rolled back
    assert hook.invoke("churn", BODY) == ["1", "1"]
    assert hook.api.find("Ingress", "churn")
    hook.set_live("churn", two.deployment)
    assert hook.retire("churn", one.deployment) == [], "it is not the one that serves any more"
    assert hook.retire("churn", two.deployment) == [one.deployment]
    assert hook.retire("churn", two.deployment) == []
    assert hook.served("churn") == Served(
        "churn", model="churn", live=two.deployment, deployments=frozenset({two.deployment})
    )
    with pytest.raises(UserError, match="is live"):
        hook.delete_deployment("churn", two.deployment)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ({"pull": {"churn-2"}}, "is in ImagePullBackOff .*manifest unknown"),
        (
            {"crash": {"churn-2"}},
            "is in CrashLoopBackOff .*status 1.*its last log line: ValueError: injected by a test",
        ),
        ({"unschedulable": True}, "is unschedulable .*Insufficient memory"),
        ({"quota": "exceeded quota: pods=3"}, "quota does not admit"),
        ({"sick": {"churn-2"}, "progress_seconds": 1.0}, "not ready in time .*Readiness probe failed"),
    ],
    ids=["image", "crash", "unschedulable", "quota", "never ready"],
)
def test_a_failing_rollout_is_named_and_what_served_serves_on(
    cluster: FakeCluster, hook: KubernetesEndpointHook, fault: dict[str, Any], said: str
) -> None:
    one, two = workload("1"), workload("2")
    go_live(hook, one)
    cluster.faults.__dict__.update(fault)
    hook.put_workload(two)
    event = rollout(two)
    assert re.search(said, event["error"]), event
    assert event["error"].startswith(f"Deployment {two.deployment} of endpoint 'churn' does not come up: ")
    assert hook.invoke("churn", BODY) == ["1", "1"]
    hook.delete_deployment("churn", two.deployment)
    assert hook.served("churn") == Served("churn", "churn", one.deployment, None, frozenset({one.deployment}))


def test_a_watch_that_breaks_off_and_an_api_that_fails_are_waited_out(
    cluster: FakeCluster, hook: KubernetesEndpointHook
) -> None:
    one, two = workload("1"), workload("2")
    cluster.faults.dropped_watches = 1
    hook.put_workload(one)
    assert "complete" in rollout(one)
    assert cluster.faults.dropped_watches == 0
    cluster.faults.api = [ApiFault(status, times=1) for status in (429, 500, 503)]
    hook.put_workload(two)
    cluster.faults.api = [ApiFault(500, method="GET", path="/pods", times=2)]
    assert "complete" in rollout(two)


@pytest.mark.parametrize(
    ("status", "error", "said"),
    [
        (
            403,
            UserError,
            r"forbids applying Deployment .* give the account of connection 'kubernetes_default' the role",
        ),
        (401, UserError, r"refuses its credentials"),
        (429, Unavailable, r"HTTP 429"),
        (500, Unavailable, r"HTTP 500"),
        (409, Unavailable, r"HTTP 409"),
    ],
)
def test_a_refusal_is_one_sentence(
    cluster: FakeCluster, hook: KubernetesEndpointHook, status: int, error: type[Exception], said: str
) -> None:
    cluster.faults.api = [ApiFault(status, method="PATCH")]
    with pytest.raises(error, match=said) as caught:
        hook.put_workload(workload("1"))
    assert "\n" not in str(caught.value)
    assert cluster.token not in str(caught.value)


def test_the_wait_ends_where_it_is_forbidden_or_the_deployment_is_gone(
    cluster: FakeCluster, hook: KubernetesEndpointHook
) -> None:
    assert "is not there" in rollout(workload("1"))["error"]
    cluster.faults.api = [ApiFault(403, path="/pods")]
    cluster.faults.unschedulable = True
    hook.put_workload(workload("1"))
    assert "forbids watching" in rollout(workload("1"))["error"]
    cluster.faults.api.clear()
    assert "was not ready in time" in rollout(workload("1"), seconds=1, patience=60)["error"]


@pytest.mark.parametrize("kind", ["Service", "HorizontalPodAutoscaler", "Ingress", "Deployment"])
def test_what_is_not_ours_is_neither_changed_nor_removed(hook: KubernetesEndpointHook, kind: str) -> None:
    one = workload("1", autoscaling=SCALING, ingress={"host": "churn.example"})
    go_live(hook, one)
    theirs = hook.api.find(kind, one.name if kind == "Deployment" else "churn")
    hook.delete_endpoint("churn")
    assert theirs
    theirs.pop("status", None)
    theirs["metadata"] = {"name": theirs["metadata"]["name"], "labels": {"app": "somebody-elses"}}
    for _ in range(50):
        if hook.api.find(kind, theirs["metadata"]["name"]) is None:
            break
        time.sleep(0.1)
    theirs.get("spec", {}).pop("clusterIP", None)
    hook.api.apply(theirs)
    before = hook.api.find(kind, theirs["metadata"]["name"])
    assert before

    with pytest.raises(UserError, match=f"{kind} '.*' in namespace 'models' is not Slipway's, and stays as it is"):
        hook.put_workload(one)
    hook.delete_endpoint("churn")
    after = hook.api.find(kind, theirs["metadata"]["name"])
    assert after
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["spec"] == before["spec"]
    assert hook.served("churn") is None
    hook.api.delete(kind, theirs["metadata"]["name"])


def test_a_field_that_somebody_else_took_is_not_taken_back(hook: KubernetesEndpointHook) -> None:
    go_live(hook, workload("1"))
    client = hook.api.hook.core_v1_client
    client.patch_namespaced_service(
        "churn", "models", {"spec": {"sessionAffinity": "ClientIP"}}, field_manager="somebody"
    )
    go_live(hook, workload("2"))
    changed = client.read_namespaced_service("churn", "models")
    assert changed.spec.session_affinity == "ClientIP", "a field that we do not set is theirs"
    hpa = {"spec": {"maxUnavailable": 2}}
    from kubernetes.client import PolicyV1Api

    PolicyV1Api(hook.api.hook.api_client).patch_namespaced_pod_disruption_budget(
        "churn", "models", hpa, field_manager="somebody"
    )
    with pytest.raises(UserError, match=r"Somebody else set \.spec\.maxUnavailable \(field manager \"somebody\" using"):
        hook.set_live("churn", workload("1").deployment)


def test_pods_that_the_autoscaler_added_stay_at_a_redeploy(hook: KubernetesEndpointHook) -> None:
    one = workload("1", autoscaling=SCALING)
    hook.put_workload(one)
    hook.api.hook.apps_v1_client.patch_namespaced_deployment_scale(one.name, "models", {"spec": {"replicas": 3}})
    hook.put_workload(one)
    assert rollout(one)["complete"].startswith("3 of 3")


def test_a_missing_namespace_deployment_or_connection_is_named(
    hook: KubernetesEndpointHook, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFound, match="Namespace 'nowhere' is not in the cluster"):
        KubernetesEndpointHook("kubernetes_default/nowhere").put_workload(workload("1"))
    with pytest.raises(NotFound, match="has no deployment v9-x"):
        hook.set_live("churn", "v9-x")
    with pytest.raises(NotFound, match="has no deployment v9-x"):
        hook.invoke("churn", BODY, deployment="v9-x")
    hook.delete_deployment("churn", "v9-x")
    hook.delete_endpoint("churn")
    monkeypatch.setenv("AIRFLOW_CONN_AWAY", '{"conn_type": "kubernetes", "extra": {"kube_config_path": "/none"}}')
    with pytest.raises(UserError, match="Connection 'away' leads to no cluster"):
        KubernetesEndpointHook("away").served("churn")


def test_a_cluster_that_is_away_is_a_passing_fault(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slipway.hooks.kubernetes_api._PAUSES", (0.01,))
    kubeconfig = cluster.kubeconfig
    kubeconfig["clusters"][0]["cluster"]["server"] = "https://127.0.0.1:1"
    extra = {"kube_config": kubeconfig}
    monkeypatch.setenv("AIRFLOW_CONN_AWAY", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    with pytest.raises(Unavailable, match=r"does not answer \(NewConnectionError\)"):
        KubernetesEndpointHook("away").served("churn")


def _life(kill_at: int) -> None:
    """Deploy version 2 over version 1 and retire that, but be killed before request number `kill_at`."""
    send, count = KubernetesApi._send, 0

    def counted(self: KubernetesApi, *arguments: Any, **options: Any) -> Any:
        nonlocal count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return send(self, *arguments, **options)

    KubernetesApi._send = counted  # type: ignore[method-assign]
    hook, two = KubernetesEndpointHook(PLACE), workload("2", autoscaling=SINGLE)
    go_live(hook, two)
    hook.retire("churn", two.deployment)
    hook.delete_endpoint("other")


def test_killed_before_any_request_and_run_again_the_end_is_the_same(
    cluster: FakeCluster, hook: KubernetesEndpointHook
) -> None:
    one, two = workload("1"), workload("2", autoscaling=SINGLE)
    kills = 0
    for kill_at in (*range(1, 40, 6), 0):
        go_live(hook, one)
        process = forked.start(_life, kill_at)
        process.join(90)
        assert hook.invoke("churn", BODY) in (["1", "1"], ["2", "2"]), "whatever happens, somebody serves"
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
        kills += 1
        go_live(hook, two)
        hook.retire("churn", two.deployment)
        assert hook.served("churn") == Served("churn", "churn", two.deployment, None, frozenset({two.deployment}))
        assert {name.partition("/")[0] for name in versions(hook)} == set(KINDS) - {"Ingress"}
        assert hook.invoke("churn", BODY) == ["2", "2"]
    assert kills >= 4
