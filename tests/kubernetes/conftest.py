"""A fake cluster with real scoring servers in its pods, and the hook that deploys to it."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from slipway.hooks.kubernetes import KubernetesEndpointHook
from slipway_sandbox.kubernetes import FakeCluster
from tests.kubernetes.steps import PLACE, image
from tests.model_host.hosts import ModelMaker, compile_lock


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    """A cluster with a namespace `models`, and images of the models that answer `1` and `2`."""
    folder = tmp_path_factory.mktemp("cluster")
    models = ModelMaker(folder, compile_lock(folder))
    with FakeCluster(folder / "run", folder / "environments", namespaces=("models", "other")) as cluster:
        for version in ("1", "2"):
            cluster.images[image(version)] = models.make(version).folder
        yield cluster


@pytest.fixture(autouse=True)
def connection(cluster: FakeCluster, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    extra = {"kube_config": cluster.kubeconfig}
    monkeypatch.setenv("AIRFLOW_CONN_KUBERNETES_DEFAULT", json.dumps({"conn_type": "kubernetes", "extra": extra}))
    yield
    cluster.faults.clear()
    hook = KubernetesEndpointHook(PLACE)
    for endpoint in {d["metadata"]["labels"]["slipway/endpoint"] for d in hook.api.find_all("Deployment", {})}:
        hook.delete_endpoint(endpoint)


@pytest.fixture
def hook(connection: None) -> KubernetesEndpointHook:
    return KubernetesEndpointHook(PLACE)
