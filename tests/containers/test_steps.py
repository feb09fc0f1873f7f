"""The steps of deploy_docker and undeploy_docker, one after the other, with a real MLflow and a real engine."""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast
from urllib.parse import quote

import httpx
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, TaskDeferred

from slipway.containers import names
from slipway.hooks.docker import DockerEndpointHook
from slipway.hooks.mlflow import MlflowHook
from slipway.operators.docker import DockerDeployOperator, DockerRestoreOperator, DockerRetireOperator
from slipway.operators.endpoints import SwitchOperator, UndeployOperator
from slipway.operators.images import BuildImageOperator, EnsureImageOperator
from slipway.operators.publish import ForgetOperator, PublishOperator
from slipway.operators.resolve import ResolveDeploymentOperator, ResolveVersionOperator
from slipway.operators.verify import VerifyOperator
from slipway.registry import LOCK_TAG, Registry
from tests.containers.test_endpoint import until
from tests.model_host.hosts import ModelMaker
from tests.plugins.conftest import mlflow_hook, mlflow_url

__all__ = ["mlflow_hook", "mlflow_url"]

pytestmark = pytest.mark.requires("docker")
ROUTE = "/api/2.0/mlflow-artifacts/artifacts"
ROWS = {"dataframe_split": {"columns": ["x"], "data": [[1]]}}


@dataclass
class Steps:
    """Runs steps as their DAGs do, for one model."""

    model: str
    context: Any

    def resolve(self, version: str, **options: Any) -> dict[str, Any]:
        wanted = {name: options.get(name) for name in ("port", "cpus", "memory", "env", "image")}
        step = ResolveVersionOperator(
            task_id="resolve", target="docker", conn_id="docker_default", model=self.model, version=version,
            options=wanted,
        )  # fmt: skip
        return cast("dict[str, Any]", step.execute(self.context))

    def run(self, operator: type[Any], plan: dict[str, Any], **more: Any) -> Any:
        return operator(task_id=operator.__name__, plan=plan, **more).execute(self.context)

    def candidate(self, plan: dict[str, Any]) -> dict[str, Any]:
        """Up to the switch."""
        image = self.run(EnsureImageOperator, plan, include_model=True)
        deployed: dict[str, Any] = self.run(DockerDeployOperator, plan, image=image)
        assert self.run(VerifyOperator, plan) == {"verified": True}
        return deployed

    def deploy(self, version: str, *, retire: bool = True, **options: Any) -> dict[str, Any]:
        """All of it, or up to where it is cancelled before `retire`; returns what was published."""
        plan = self.resolve(version, **options)
        deployed = self.candidate(plan)
        self.run(SwitchOperator, plan)
        published: dict[str, Any] = self.run(PublishOperator, plan, deployed=deployed)
        if retire:
            self.run(DockerRetireOperator, plan)
        assert "published: nothing to undo" in self.run(DockerRestoreOperator, plan)
        return published


@pytest.fixture
def steps(mlflow_hook: MlflowHook, models: ModelMaker) -> Iterator[Steps]:
    """A model with two versions in MLflow that answer "1" and "2", each with a golden sample."""
    name = f"steps-{secrets.token_hex(3)}"
    mlflow_hook.call("POST", "/api/2.0/mlflow/registered-models/create", json={"name": name})
    for answer in ("1", "2"):
        register(mlflow_hook, models, name, answer)
    context = {
        "ti": SimpleNamespace(
            xcom_push=lambda key, value: None,
            get_task_states=lambda dag_id, run_ids: {"test": {"publish": "success", "retire": "skipped"}},
        ),
        "dag": SimpleNamespace(dag_id="deploy_docker"),
        "run_id": "test",
        "outlet_events": defaultdict(SimpleNamespace),
    }
    yield Steps(name, context)
    DockerEndpointHook().delete_endpoint(name)


def register(hook: MlflowHook, models: ModelMaker, name: str, answer: str) -> None:
    folder = models.make(answer).folder
    logged = hook.call("POST", "/api/2.0/mlflow/logged-models", json={"experiment_id": "0", "name": name})
    info = logged["model"]["info"]
    root = httpx.URL(info["artifact_uri"]).path.strip("/")
    with hook.get_conn() as client:
        for path in folder.rglob("*"):
            if path.is_file():
                data = path.read_bytes()
                if path.name == "manifest.json":
                    golden = {"golden": {"input": ROWS, "output": [answer]}}
                    data = json.dumps({**json.loads(data), **golden}).encode()
                place = quote(path.relative_to(folder).as_posix())
                assert client.put(f"{ROUTE}/{root}/{place}", content=data).is_success
    body = {"name": name, "source": info["artifact_uri"], "model_id": info["model_id"],
            "tags": [{"key": LOCK_TAG, "value": models.digest}]}  # fmt: skip
    hook.call("POST", "/api/2.0/mlflow/model-versions/create", json=body)


def test_deploy_again_replace_restore_and_undeploy(steps: Steps, mlflow_hook: MlflowHook) -> None:
    first = steps.deploy("1", cpus=1, memory="1g")
    assert first["details"]["memory"] == "1g"
    assert httpx.post(f"{first['url']}/invocations", json=ROWS).json() == {"predictions": ["1"]}
    assert steps.deploy("1", cpus=1, memory="1g")["deployed_at"] == first["deployed_at"]

    # A deploy that ends between its switch and its record is undone.
    plan = steps.resolve("2")
    steps.candidate(plan)
    steps.run(SwitchOperator, plan)
    assert httpx.post(f"{first['url']}/invocations", json=ROWS).json() == {"predictions": ["2"]}
    assert f"serves {first['deployment']}" in steps.run(DockerRestoreOperator, plan)
    assert httpx.post(f"{first['url']}/invocations", json=ROWS).json() == {"predictions": ["1"]}

    second = steps.deploy("2", retire=False)
    assert (second["url"], second["version"]) == (first["url"], "2")
    served = DockerEndpointHook().served(steps.model)
    assert served is not None
    assert served.deployments == {second["deployment"]}

    undeploy = ResolveDeploymentOperator(
        task_id="resolve", target="docker", conn_id="docker_default", model=steps.model
    ).execute(steps.context)
    steps.run(UndeployOperator, undeploy)
    steps.run(ForgetOperator, undeploy)
    assert DockerEndpointHook().served(steps.model) is None
    assert Registry(mlflow_hook).find_deployment(steps.model, "docker", steps.model) is None


def test_a_deploy_that_is_cancelled_while_it_waits_leaves_nothing_and_hurts_nobody(
    steps: Steps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.operators.docker._SHORT_WAIT_SECONDS", 0.0)
    hook = DockerEndpointHook()
    one, two = steps.resolve("1"), steps.resolve("2")

    def begin(plan: dict[str, Any]) -> None:
        image = steps.run(EnsureImageOperator, plan, include_model=True)
        with pytest.raises(TaskDeferred):
            steps.run(DockerDeployOperator, plan, image=image)

    begin(one)
    begin(two)
    assert "serves nothing" in steps.run(DockerRestoreOperator, two)
    served = hook.served(steps.model)
    assert served is not None
    assert served.deployments == {one["deployment"]}, "another run's first deployment is left alone"
    assert "is removed again" in steps.run(DockerRestoreOperator, one)
    assert hook.served(steps.model) is None
    assert "is not there" in steps.run(DockerRestoreOperator, one)

    with monkeypatch.context() as patch:
        patch.setattr("slipway.operators.docker._SHORT_WAIT_SECONDS", 15.0)
        url = steps.deploy("1")["url"]
    stranger = {**two, "model": "another"}
    assert f"is model '{steps.model}'s" in steps.run(DockerRestoreOperator, stranger)
    begin(two)
    # The door is away for a moment: what is behind it is not taken for something that does not serve.
    hook.engine.client.stop(names.door_name(steps.model))
    with pytest.raises(AirflowException, match="cannot be told") as failed:
        steps.run(DockerRestoreOperator, two)
    assert not isinstance(failed.value, AirflowFailException), "it is tried again"
    hook.engine.client.start(names.door_name(steps.model))
    until(lambda: answered(url) == ["1"])
    assert f"serves {one['deployment']}" in steps.run(DockerRestoreOperator, two)
    served = hook.served(steps.model)
    assert served is not None
    assert served.deployments == {one["deployment"]}
    assert answered(url) == ["1"]


def answered(url: str) -> Any:
    try:
        return httpx.post(f"{url}/invocations", json=ROWS).json().get("predictions")
    except httpx.TransportError:
        return None


def test_wrong_params_fail_at_once(steps: Steps) -> None:
    plan = steps.resolve("1", memory="1 elephant")
    image = steps.run(EnsureImageOperator, plan, include_model=True)
    with pytest.raises(AirflowFailException, match="memory is '1 elephant'"):
        steps.run(DockerDeployOperator, plan, image=image)
    build = BuildImageOperator(task_id="image", model=steps.model, registry="nowhere")
    with pytest.raises(AirflowFailException, match="Connection 'nowhere' does not exist"):
        build.execute(steps.context)
    general = BuildImageOperator(task_id="image", registry="nowhere", include_model=True)
    with pytest.raises(AirflowFailException, match="include_model is set, but no model is named"):
        general.execute(steps.context)
