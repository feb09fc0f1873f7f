"""A model's whole life on Kubernetes through a real Airflow, against the fake cluster and its real scoring servers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from slipway.domain import ModelVersion
from slipway.hooks.kubernetes import KubernetesEndpointHook
from slipway.model_download import download_model
from slipway_sandbox.kubernetes import ApiFault, FakeCluster
from tests.stack.running import RunningStack
from tests.system.steps import SAMPLE, cancelled, check_page, constant_bundle, register, version_tags

MODEL, ENDPOINT = "on-kubernetes", "on-kubernetes"
CONNECTION = "kubernetes_test"
PAYLOAD = {"dataframe_split": SAMPLE}


@pytest.fixture(scope="module")
def cluster(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    folder = tmp_path_factory.mktemp("cluster")
    with FakeCluster(folder / "run", stack.stack.environments, namespaces=("models", "other")) as cluster:
        extra = json.dumps({"kube_config": cluster.kubeconfig})
        connection = {"connection_id": CONNECTION, "conn_type": "kubernetes", "extra": extra}
        stack.airflow.request("POST", "/connections", json=connection)
        yield cluster


@pytest.fixture(scope="module")
def versions(stack: RunningStack, cluster: FakeCluster, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Three versions, which answer `one`, `two` and `three`, and their images; the last one's is not pushed."""
    folder = tmp_path_factory.mktemp("bundles")
    made = [register(stack, constant_bundle(folder / f"{answer}.zip", answer), MODEL) for answer in ("one", "two", "3")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", json.dumps({"conn_type": "http", "host": stack.mlflow_url}))
        for version in made[:2]:
            found = httpx.get(
                f"{stack.mlflow_url}/api/2.0/mlflow/model-versions/get", params={"name": MODEL, "version": version}
            ).json()["model_version"]
            model = ModelVersion(name=MODEL, version=version, source=found["source"])
            (folder / version).mkdir()
            cluster.images[image(version)] = download_model(model, folder / version)
    return made


@pytest.fixture
def hook(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> KubernetesEndpointHook:
    extra = {"kube_config": cluster.kubeconfig}
    monkeypatch.setenv(f"AIRFLOW_CONN_{CONNECTION.upper()}", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    return KubernetesEndpointHook(f"{CONNECTION}/models")


def image(version: str) -> str:
    return f"registry.example/{MODEL}@sha256:{version * 64}"


def conf(version: str, **more: Any) -> dict[str, Any]:
    return {
        "model": MODEL, "version": version, "kubernetes_conn_id": CONNECTION, "namespace": "models",
        "image": image(version), **more,
    }  # fmt: skip


def test_deploy_redeploy_fail_and_undeploy(
    stack: RunningStack, cluster: FakeCluster, versions: list[str], hook: KubernetesEndpointHook
) -> None:
    one, two, three = versions
    options = {"replicas": 2, "ingress": {"host": "model.example", "tls_secret": "cert"}}
    run = stack.succeed("deploy_kubernetes", conf(one, **options))
    first = stack.xcom(run, "publish")
    assert first["url"] == "https://model.example"
    assert first["image"] == image(one)
    assert first["details"]["namespace"] == "models"
    assert "https://model.example/invocations" in first["samples"]["curl"]
    assert hook.invoke(ENDPOINT, PAYLOAD) == ["one", "one"]
    assert "2 of 2 pods are ready" in stack.task_log(run, "deploy")

    check_page(stack, MODEL, "kubernetes", ENDPOINT, "one")

    again = stack.xcom(stack.succeed("deploy_kubernetes", conf(one, **options)), "publish")
    assert again == first, "the same deploy changes nothing"

    second = stack.xcom(stack.succeed("deploy_kubernetes", conf(two)), "publish")
    assert second["url"] == f"http://{ENDPOINT}.models.svc.cluster.local"
    assert "port-forward" in second["samples"]["python"]
    assert hook.invoke(ENDPOINT, PAYLOAD) == ["two", "two"]
    served = hook.served(ENDPOINT)
    assert served is not None
    assert served.deployments == {second["deployment"]}, "what served before is gone when the new one is published"

    task, sentence = stack.fail("deploy_kubernetes", conf(three))
    assert task == "deploy"
    assert "is in ImagePullBackOff" in sentence
    assert "manifest unknown" in sentence
    assert hook.invoke(ENDPOINT, PAYLOAD) == ["two", "two"]
    assert hook.served(ENDPOINT) == served

    task, sentence = stack.fail("deploy_kubernetes", {**conf(one), "namespace": "other"})
    assert (task, "is on Kubernetes at kubernetes_test/models" in sentence) == ("deploy", True)

    tag = f"slipway.deployment.kubernetes.{ENDPOINT}"
    assert tag in version_tags(stack, MODEL, two)
    place = {"model": MODEL, "kubernetes_conn_id": CONNECTION, "namespace": "models"}
    stack.succeed("undeploy_kubernetes", place)
    assert hook.served(ENDPOINT) is None
    assert tag not in version_tags(stack, MODEL, two)
    task, sentence = stack.fail("undeploy_kubernetes", place)
    assert (task, "there is nothing to undeploy" in sentence) == ("undeploy", True)


def test_a_deploy_that_predicts_otherwise_or_fails_when_live_or_is_cancelled_is_undone(
    stack: RunningStack, cluster: FakeCluster, versions: list[str], hook: KubernetesEndpointHook
) -> None:
    one, two, _ = versions
    first = stack.xcom(stack.succeed("deploy_kubernetes", conf(one)), "publish")
    # The image of version two holds the model of version one: what is verified is what runs, not what it is called.
    honest = cluster.images[image(two)]
    cluster.images[image(two)] = cluster.images[image(one)]
    task, sentence = stack.fail("deploy_kubernetes", conf(two))
    assert (task, "does not give the golden sample's output" in sentence) == ("verify", True)
    assert hook.invoke(ENDPOINT, PAYLOAD) == ["one", "one"]
    served = hook.served(ENDPOINT)
    assert served is not None
    assert (served.live, served.deployments) == (first["deployment"], {first["deployment"]})

    # A switch whose outcome is not to be seen: what served before is live again, and the new pods are gone.
    cluster.images[image(two)] = honest
    cluster.faults.api = [ApiFault(403, method="POST", path=f"/services/{ENDPOINT}:http/proxy")]
    task, _ = stack.fail("deploy_kubernetes", conf(two))
    assert task == "switch"
    cluster.faults.clear()
    assert hook.invoke(ENDPOINT, PAYLOAD) == ["one", "one"]
    assert hook.served(ENDPOINT) == served

    # Cancelled while its pods are waited for.
    cluster.faults.sick = {image(two)}
    states = cancelled(stack, stack.trigger("deploy_kubernetes", conf(two)), "deploy", "deferred")
    assert (states["deploy"], states["switch"], states["restore"]) == ("failed", "skipped", "success")
    cluster.faults.clear()
    assert hook.invoke(ENDPOINT, PAYLOAD) == ["one", "one"]
    assert hook.served(ENDPOINT) == served
    stack.succeed("undeploy_kubernetes", {"model": MODEL, "kubernetes_conn_id": CONNECTION, "namespace": "models"})
