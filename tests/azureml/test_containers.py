"""A deployment served from its scoring image: built, pushed to a registry, pulled and run as AzureML runs it."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from slipway.hooks.docker_engine import DockerEngineHook
from slipway.operators.images import EnsureImageOperator
from slipway_sandbox.azure.server import running_sandbox
from slipway_sandbox.azure.settings import Settings
from slipway_stack.ports import pick_free
from tests.azureml import driving
from tests.azureml.conftest import ROWS
from tests.images.registries import running_registry

pytestmark = [
    pytest.mark.requires("npm", "docker", "docker-registry"),
    pytest.mark.usefixtures("registered"),
    pytest.mark.timeout(1200),
]


def test_the_image_that_is_made_serves_in_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    port, blob_port = pick_free(2)
    settings = Settings(tmp_path / "azure", port, blob_port, pace=0.1)
    with running_registry(tmp_path / "registry") as registry, running_sandbox(settings) as sandbox:
        for name, value in sandbox.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AIRFLOW_CONN_REGISTRY", json.dumps({"conn_type": "docker", "host": f"http://{registry}"}))
        monkeypatch.setenv("AIRFLOW__SLIPWAY__BASE_IMAGE", "slipway-test/base:bookworm")
        plan = driving.plan_of("1", "contained")
        made = EnsureImageOperator(task_id="image", plan=plan, registry="registry").run(driving.context())
        monkeypatch.setattr(driving, "IMAGE", made)
        try:
            published = driving.deploy("1", "contained")
            assert published["image"] == made["image"]
            assert "@sha256:" in made["image"]
            key = sandbox.endpoints.known["contained"].keys["primaryKey"]
            bundle = str(sandbox.certificates.bundle)
            answer = httpx.post(
                published["url"], json=ROWS, headers={"Authorization": f"Bearer {key}"}, verify=bundle, timeout=60
            )
            assert answer.json()["predictions"] == ["one", "one"]
            containers = DockerEngineHook().client.containers(filters={"ancestor": made["image"]})
            assert len(containers) == 1, "a container serves, not a process"
            driving.undeploy("contained")
            assert not DockerEngineHook().client.containers(all=True, filters={"ancestor": made["image"]})
        finally:
            sandbox.reset()
            DockerEngineHook().client.remove_image(made["image"], force=True)
