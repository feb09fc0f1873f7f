"""The main job through a real Airflow, over its REST API: import, register, deploy, score, undeploy."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway.golden import first_difference
from tests.stack.running import RunningStack
from tests.system.steps import deploy, register, score, version_tags, versions, write_bundle

ROOT = Path(__file__).parents[2]
BUNDLES = ROOT / "build" / "bundles"
DOCUMENTED = re.findall(
    r"^\| `(\w+)` \| `({.*})` \| (.*) \|$", (ROOT / "docs" / "bad-input.md").read_text(), re.MULTILINE
)
SAMPLES = ("breast-cancer", "diabetes-boosted", "wine-no-sample")


@pytest.fixture(scope="module")
def registered(stack: RunningStack) -> dict[str, str]:
    """The three sample bundles, registered: model to version."""
    return {name: register(stack, (BUNDLES / f"{name}.zip").as_uri(), name, alias="champion") for name in SAMPLES}


@pytest.fixture(scope="module")
def deployed(stack: RunningStack, registered: dict[str, str]) -> dict[str, dict[str, Any]]:
    """The three, deployed by their alias: model to what was published."""
    return {name: deploy(stack, name, alias="champion") for name in registered}


def golden(stack: RunningStack, model: str, version: str) -> dict[str, Any]:
    query = {"name": model, "version": version, "path": "slipway/manifest.json"}
    return dict(httpx.get(f"{stack.mlflow_url}/model-versions/get-artifact", params=query).json()["golden"])


@pytest.mark.parametrize("model", SAMPLES)
@pytest.mark.parametrize("kind", ["curl", "python"])
def test_the_published_sample_gives_the_golden_predictions_when_pasted(
    stack: RunningStack, deployed: dict[str, dict[str, Any]], model: str, kind: str
) -> None:
    published = deployed[model]
    code = published["samples"][kind]
    command = ["bash", "-c", code] if kind == "curl" else ["python3", "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env={"PATH": "/usr/bin:/bin"})
    answer = json.loads(run.stdout)["predictions"] if kind == "curl" else ast.literal_eval(run.stdout)
    if model == "wine-no-sample":  # its sample is made from the signature
        assert len(answer) == 1
        return
    assert first_difference(golden(stack, model, published["version"])["output"], answer, 1e-6) is None


def test_a_model_without_a_sample_is_deployed_and_scores(deployed: dict[str, dict[str, Any]]) -> None:
    from sklearn.datasets import load_wine

    wine = load_wine(as_frame=True)
    rows = wine.data.iloc[[0, 60, 150]]
    split = {"columns": [name.replace("/", "_") for name in rows.columns], "data": rows.to_numpy().tolist()}
    assert len(score(deployed["wine-no-sample"]["url"], split)) == 3


def test_the_record_is_in_mlflow_and_on_the_task(
    stack: RunningStack, deployed: dict[str, dict[str, Any]], registered: dict[str, str]
) -> None:
    published = deployed["breast-cancer"]
    record = json.loads(
        version_tags(stack, "breast-cancer", registered["breast-cancer"])["slipway.deployment.mlflow.breast-cancer"]
    )
    assert record == {key: value for key, value in published.items() if key != "samples"}
    assert record["target"] == "mlflow"
    assert record["url"] == f"{stack.model_host_url}/endpoints/breast-cancer"
    run = next(r for r in stack.airflow.runs("deploy_mlflow") if record["run"] == f"deploy_mlflow/{r.run_id}")
    links = stack.airflow.request("GET", f"{run.path}/taskInstances/publish/links")["extra_links"]
    assert links == {"Endpoint": f"{record['url']}/docs"}


def test_importing_registering_and_deploying_again_changes_nothing(
    stack: RunningStack, deployed: dict[str, dict[str, Any]], registered: dict[str, str]
) -> None:
    before = versions(stack, "breast-cancer")
    again = register(stack, (BUNDLES / "breast-cancer.zip").as_uri(), "breast-cancer")
    assert again == registered["breast-cancer"]
    assert versions(stack, "breast-cancer") == before
    assert deploy(stack, "breast-cancer", version=again) == deployed["breast-cancer"]


def test_each_lock_has_one_environment(deployed: dict[str, dict[str, Any]], stack: RunningStack) -> None:
    locks = {p["environment"] for p in deployed.values()}
    assert locks <= {path.name for path in stack.stack.environments.iterdir()}
    assert len(locks) >= 2


def test_re_register_redeploy_undeploy(
    stack: RunningStack, deployed: dict[str, dict[str, Any]], registered: dict[str, str]
) -> None:
    run = stack.succeed("register_model", {"name": "breast-cancer", "force": True})
    second = stack.xcom(run, "register")["version"]
    assert int(second) > int(registered["breast-cancer"])
    published = deploy(stack, "breast-cancer", version=second)
    assert published["url"] == deployed["breast-cancer"]["url"]
    assert published["version"] == second
    tag = "slipway.deployment.mlflow.breast-cancer"
    assert tag in version_tags(stack, "breast-cancer", second)
    assert tag not in version_tags(stack, "breast-cancer", registered["breast-cancer"])
    sample = golden(stack, "breast-cancer", second)
    split = sample["input"]["dataframe_split"]
    assert first_difference(sample["output"], score(published["url"], split), 1e-6) is None

    stack.succeed("undeploy_mlflow", {"model": "breast-cancer"})
    assert tag not in version_tags(stack, "breast-cancer", second)
    assert httpx.post(f"{published['url']}/invocations", json={}).status_code == 404
    task, sentence = stack.fail("undeploy_mlflow", {"model": "breast-cancer"})
    assert task == "undeploy"
    assert "is not deployed to endpoint 'breast-cancer' on mlflow" in sentence


def test_an_endpoint_with_a_token_refuses_who_has_none(stack: RunningStack, registered: dict[str, str]) -> None:
    deploy(stack, "diabetes-boosted", endpoint="guarded")
    published = deploy(stack, "diabetes-boosted", endpoint="guarded", auth="token")
    split = golden(stack, "diabetes-boosted", published["version"])["input"]["dataframe_split"]
    with pytest.raises(httpx.HTTPStatusError, match="401"):
        score(published["url"], split)
    environment = {"PATH": "/usr/bin:/bin", "MODEL_HOST_ADMIN_TOKEN": stack.keys.model_host_token}
    for command in (["bash", "-c", published["samples"]["curl"]], ["python3", "-c", published["samples"]["python"]]):
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        assert run.stdout.strip()
    for run in stack.airflow.runs("deploy_mlflow", limit=1):
        token = httpx.get(
            f"{stack.model_host_admin_url}/v1/endpoints/guarded/token",
            headers={"Authorization": f"Bearer {stack.keys.model_host_token}"},
        ).json()["token"]
        logs = "".join(stack.task_log(run, task.task_id) for task in stack.airflow.tasks(run))
        assert token not in logs
    stack.succeed("undeploy_mlflow", {"model": "diabetes-boosted", "endpoint": "guarded"})


@pytest.mark.parametrize(("dag", "conf", "sentence"), DOCUMENTED)
def test_a_request_that_makes_no_sense_fails_at_once_in_one_sentence(
    stack: RunningStack, deployed: dict[str, dict[str, Any]], dag: str, conf: str, sentence: str
) -> None:
    run = stack.wait(stack.trigger(dag, json.loads(conf)))
    assert run.state == "failed"
    failed = [task for task in stack.airflow.tasks(run) if task.state == "failed"]
    assert len(failed) == 1
    assert failed[0].try_number == 1, "a user's mistake is not retried"
    said = stack.xcom(run, failed[0].task_id, "error")
    assert re.fullmatch(".*".join(map(re.escape, sentence.split("…"))), said), said
    assert "Traceback" not in stack.task_log(run, failed[0].task_id)


def test_a_model_that_predicts_otherwise_than_at_import_is_not_put_in_service(
    stack: RunningStack, tmp_path: Path
) -> None:
    steady = """
    class CustomPreprocessor:
        def predict(self, frame):
            return ["steady"] * len(frame)
    """
    # Another process, another answer.
    moody = """
    import os, time
    class CustomPreprocessor:
        def load(self, artifacts):
            self.made = time.time_ns()
        def predict(self, frame):
            return [self.made] * len(frame)
    """
    first = register(stack, write_bundle(tmp_path / "steady.zip", steady), "moody")
    published = deploy(stack, "moody", version=first)
    second = register(stack, write_bundle(tmp_path / "moody.zip", moody), "moody")
    task, sentence = stack.fail("deploy_mlflow", {"model": "moody", "version": second})
    assert task == "verify"
    assert "does not give the golden sample's output" in sentence
    assert score(published["url"]) == ["steady", "steady"]
    admin = {"Authorization": f"Bearer {stack.keys.model_host_token}"}
    host = httpx.get(f"{stack.model_host_admin_url}/v1/endpoints/moody", headers=admin).json()
    assert [d["version"] for d in host["deployments"]] == [first], "nothing new is left behind"
    assert "slipway.deployment.mlflow.moody" not in version_tags(stack, "moody", second)
    stack.succeed("undeploy_mlflow", {"model": "moody"})


def test_an_mlflow_model_made_elsewhere(stack: RunningStack) -> None:
    code = """
import sys, mlflow
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
mlflow.set_tracking_uri(sys.argv[1])
X, y = load_iris(return_X_y=True, as_frame=True)
model = LogisticRegression(max_iter=500).fit(X, y)
with mlflow.start_run():
    info = mlflow.sklearn.log_model(model, name="iris", input_example=X.head(3), serialization_format="pickle")
print(info.model_uri)
"""
    run = subprocess.run([sys.executable, "-c", code, stack.mlflow_url], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    uri = run.stdout.split()[-1]
    first = stack.xcom(stack.succeed("register_model", {"name": "iris", "model_uri": uri}), "register")
    again = stack.xcom(stack.succeed("register_model", {"name": "iris", "model_uri": uri}), "register")
    assert again["version"] == first["version"]
    published = deploy(stack, "iris", version=first["version"])
    sample = golden(stack, "iris", first["version"])
    assert score(published["url"], sample["input"]["dataframe_split"]) == sample["output"] == [0, 0, 0]
    stack.succeed("undeploy_mlflow", {"model": "iris"})
