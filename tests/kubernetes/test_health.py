"""What the Models page says of an endpoint on a cluster: whether its pods take requests, and what they have counted."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from slipway.domain import DeploymentRecord
from slipway.hooks.kubernetes import KubernetesEndpointHook
from slipway.kubernetes.manifests import Workload, selector
from slipway.web.page.endpoint import Health, figures, health
from slipway_sandbox.kubernetes import FakeCluster
from tests.kubernetes.steps import BODY, PLACE, go_live, image, workload


def record(workload: Workload) -> DeploymentRecord:
    return DeploymentRecord(
        endpoint=workload.endpoint, target="kubernetes", url="http://churn", model="churn", version=workload.version,
        deployment=workload.deployment, deployed_at=datetime.now(UTC), run="deploy_kubernetes/x",
    )  # fmt: skip


def test_an_endpoint_is_well_while_a_pod_of_it_is_ready(cluster: FakeCluster, hook: KubernetesEndpointHook) -> None:
    one = workload("1", replicas=2)
    go_live(hook, one)
    assert health(record(one), PLACE) == Health("well", "2 of 2 pods are ready.")
    assert health(record(workload("2")), PLACE).state == "ill", "it is not what serves"

    # Its pods are lost, and those that take their place do not come up.
    cluster.faults.pull = {image("1")}
    for pod in hook.api.find_all("Pod", selector("churn", one.deployment)):
        hook.api.delete("Pod", pod["metadata"]["name"])
    deadline = time.monotonic() + 60
    while (found := health(record(one), PLACE)).state == "well" or "ImagePullBackOff" not in found.sentence:
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    assert found.state == "ill"
    hook.delete_endpoint("churn")
    assert health(record(one), PLACE).state == "gone"


def test_the_figures_are_those_of_all_pods(hook: KubernetesEndpointHook) -> None:
    one = workload("1", replicas=2)
    go_live(hook, one)
    before = figures(record(one), PLACE)
    for _ in range(6):  # to one pod after the other
        hook.invoke("churn", BODY)
    after = figures(record(one), PLACE)
    assert after.requests - before.requests == 6
    assert after.buckets[-1][1] - before.buckets[-1][1] == 6
    assert after.seconds > before.seconds
