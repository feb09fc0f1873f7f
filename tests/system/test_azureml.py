"""The whole life of an AzureML endpoint through a real Airflow, in the sandbox, under constant load."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway_sandbox.azure import az
from slipway_sandbox.azure.server import Sandbox, running_sandbox
from slipway_sandbox.azure.settings import Settings
from slipway_sandbox.azure.tls import certificates
from slipway_stack.airflow_api import Task
from slipway_stack.ports import pick_free
from tests.sandbox_azure.load import constant_load
from tests.stack.running import RunningStack, running_stack
from tests.system.steps import SAMPLE, cancelled, check_page, constant_bundle, register, version_tags

pytestmark = [pytest.mark.requires("npm", "curl"), pytest.mark.timeout(1800)]

IMAGE = "registry.example/slipway@sha256:" + "0" * 64  # not pulled: processes serve in this sandbox
TAG = "slipway.deployment.azureml.steady"


@dataclass
class Place:
    """A stack that uses a sandbox."""

    stack: RunningStack
    sandbox: Sandbox

    def deploy(self, **conf: Any) -> dict[str, Any]:
        """Deploy, and return what was published."""
        run = self.stack.succeed("deploy_azureml", {"model": "steady", "image": IMAGE, **conf})
        return dict(self.stack.xcom(run, "publish"))

    def key(self, endpoint: str = "steady") -> str:
        return self.sandbox.endpoints.known[endpoint].keys["primaryKey"]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    home: Path = tmp_path_factory.mktemp("azure")
    port, blob_port = pick_free(2)
    settings = Settings(home, port, blob_port, pace=0.5, containers=False)
    bundle = certificates(home / "tls").bundle
    variables = {**settings.environment(bundle), "AIRFLOW_CONN_AZUREML_DEFAULT": settings.connection()}
    variables["AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL"] = "1"  # what a cancelled task's worker is waited for by
    with (
        running_stack(variables) as stack,
        running_sandbox(replace(settings, environments_dir=stack.stack.environments)) as sandbox,
    ):
        for answer in ("one", "two", "three"):
            register(stack, constant_bundle(home / f"{answer}.zip", answer), "steady")
        yield Place(stack, sandbox)


def test_the_whole_life_under_load(place: Place, tmp_path: Path) -> None:
    stack, sandbox = place.stack, place.sandbox
    first = place.deploy(version="1")
    assert first["url"] == f"{sandbox.settings.url}/inference/steady/score"
    assert first["auth"] == "key"
    check_samples(first, sandbox, tmp_path, ["one", "one"])
    check_page(stack, "steady", "azureml", "steady", "one")
    deferred: set[str] = set()

    def follow(tasks: list[Task]) -> None:
        deferred.update(task.task_id for task in tasks if task.state == "deferred")

    with constant_load(sandbox, "steady", SAMPLE) as load:
        run = stack.trigger(
            "deploy_azureml",
            {"model": "steady", "version": "2", "image": IMAGE, "traffic": {"steps": [10, 50, 100], "wait": 4}},
        )
        assert stack.airflow.wait(run, timeout=600, follow=follow).state == "success", stack.airflow.failure(run)
        assert load.predictions["one"] > 0
        assert load.predictions["two"] > 0
        sandbox.faults.set({"kind": "liveness", "match": "^v3"})
        task, sentence = stack.fail("deploy_azureml", {"model": "steady", "version": "3", "image": IMAGE})
        assert task == "deploy"
        assert "failed at Azure with ResourceNotReady" in sentence
        before = load.predictions["one"]
        time.sleep(1)
        assert load.predictions["one"] == before, "nothing goes back to what is retired"
    assert load.failures == []
    assert set(load.predictions) == {"one", "two"}, "what fails never gets traffic"
    assert "switch" in deferred, "no worker is held while traffic rests at a step"
    assert len(sandbox.endpoints.known["steady"].deployments) == 1
    logs = "".join(stack.task_log(run, task.task_id) for task in stack.airflow.tasks(run))
    assert place.key() not in logs

    # Back to the first version, then the same once more, which changes nothing.
    with constant_load(sandbox, "steady", SAMPLE) as load:
        back = place.deploy(version="1", traffic={"steps": [50, 100], "wait": 1})
    assert load.failures == []
    changed = sandbox.endpoints.known["steady"].resource["systemData"]["lastModifiedAt"]
    assert place.deploy(version="1") == back
    assert sandbox.endpoints.known["steady"].resource["systemData"]["lastModifiedAt"] == changed
    assert TAG in version_tags(stack, "steady", "1")

    stack.succeed("undeploy_azureml", {"model": "steady"})
    assert not sandbox.endpoints.known
    assert TAG not in version_tags(stack, "steady", "1")


def test_a_deploy_that_is_cancelled_while_it_waits_leaves_what_served(place: Place) -> None:
    stack, sandbox = place.stack, place.sandbox
    first = place.deploy(version="1", endpoint="cancelled")
    sandbox.faults.set({"kind": "stuck", "match": "^v2"})
    run = stack.trigger("deploy_azureml", {"model": "steady", "version": "2", "endpoint": "cancelled", "image": IMAGE})
    states = cancelled(stack, run, "deploy", "deferred")
    assert (states["deploy"], states["switch"], states["restore"]) == ("failed", "skipped", "success")
    assert list(sandbox.endpoints.known["cancelled"].deployments) == [first["deployment"]]
    assert "so it is no success" in stack.xcom(run, "outcome", "error")
    headers = {"Authorization": f"Bearer {place.key('cancelled')}"}
    asked = {"url": first["url"], "headers": headers, "json": {"dataframe_split": SAMPLE}}
    answer = httpx.post(**asked, verify=str(sandbox.certificates.bundle), timeout=60)
    assert answer.json()["predictions"] == ["one", "one"]
    stack.succeed("undeploy_azureml", {"model": "steady", "endpoint": "cancelled"})


def check_samples(published: dict[str, Any], sandbox: Sandbox, folder: Path, expected: list[str]) -> None:
    """Run the published curl and Python in a shell that has `az` and trusts the sandbox's certificate."""
    az.install(folder, sandbox.environment)
    bundle = str(sandbox.certificates.bundle)
    variables = {"PATH": f"{folder}:/usr/bin:/bin", "CURL_CA_BUNDLE": bundle, "SSL_CERT_FILE": bundle}
    interpreter = getattr(sys, "_base_executable", sys.executable)
    curl = ["bash", "-c", published["samples"]["curl"]]
    python = [interpreter, "-I", "-c", published["samples"]["python"]]
    answers = [
        subprocess.run(command, capture_output=True, text=True, check=True, env=variables, cwd=folder).stdout
        for command in (curl, python)
    ]
    assert json.loads(answers[0])["predictions"] == expected
    assert ast.literal_eval(answers[1]) == expected
    assert "key" not in published["samples"]["curl"].replace("primaryKey", "").replace("The endpoint's key", "")


def test_a_token_of_entra_in_place_of_a_key(place: Place, tmp_path: Path) -> None:
    published = place.deploy(version="2", endpoint="signed-in", auth_mode="aad_token")
    check_samples(published, place.sandbox, tmp_path, ["two", "two"])
    task, sentence = place.stack.fail(
        "deploy_azureml", {"model": "steady", "endpoint": "signed-in", "auth_mode": "key", "image": IMAGE}
    )
    assert task == "check"
    assert "which Azure does not let anybody change" in sentence
    place.stack.succeed("undeploy_azureml", {"model": "steady", "endpoint": "signed-in"})


def test_a_dry_run_ends_after_the_check(place: Place) -> None:
    run = place.stack.succeed("deploy_azureml", {"model": "steady", "dry_run": True})
    assert "Endpoint 'steady' is created with authentication key." in place.stack.xcom(run, "check", "dry_run")
    states = {task.task_id: task.state for task in place.stack.airflow.tasks(run)}
    assert states.pop("resolve") == "success"
    assert set(states.values()) == {"skipped"}
    assert not place.sandbox.endpoints.known


def test_the_connections_form_and_its_test_button(place: Place) -> None:
    airflow = place.stack.airflow
    kinds = {kind["connection_type"]: kind for kind in airflow.raw("GET", "/ui/connections/hook_meta").json()}
    form = kinds["azureml"]
    assert form["hook_name"] == "Azure Machine Learning"
    assert {"tenant_id", "subscription_id", "resource_group", "workspace"} <= form["extra_fields"].keys()
    known = json.loads(place.sandbox.settings.connection())
    body = {**known, "connection_id": "azureml_default", "extra": json.dumps(known["extra"])}
    answer = airflow.request("POST", "/connections/test", json=body)
    assert answer == {"status": True, "message": "Workspace 'slipway' in sandboxregion answers."}
    refused = airflow.request("POST", "/connections/test", json={**body, "password": "wrong"})
    assert not refused["status"]
    assert "the client secret is wrong" in refused["message"]
    # As the button in the list asks: nothing for a host, 0 for a port, and the stored secret by its mask.
    airflow.request("POST", "/connections", json={**body, "connection_id": "azureml_stored"})
    asked = {**body, "connection_id": "azureml_stored", "password": "***", "host": "", "port": 0, "schema": ""}
    assert airflow.request("POST", "/connections/test", json=asked) == answer
