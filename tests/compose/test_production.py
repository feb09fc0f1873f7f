"""The production stack, really brought up: the main job, restarts in the midst of it, where secrets do not show."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from slipway.golden import first_difference
from slipway_stack.airflow_api import AirflowError, Run
from tests.compose.production import ROOT, Production, docker, production_stack, up

pytestmark = [pytest.mark.requires("docker", "docker-compose"), pytest.mark.timeout(1500)]

MODEL = "breast-cancer"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    with production_stack(tmp_path_factory.mktemp("production")) as stack:
        over = threading.Event()
        watcher = threading.Thread(target=stack.watch_processes, args=(over,))
        watcher.start()
        yield stack
        over.set()
        watcher.join()


def succeed(stack: Production, dag_id: str, conf: dict[str, Any]) -> Run:
    run = stack.airflow.wait(stack.airflow.trigger(dag_id, conf), timeout=900)
    assert run.state == "success", f"{dag_id}: {stack.airflow.failure(run)}"
    return run


def score(stack: Production, version: str) -> None:
    """The endpoint serves a version: it gives the golden output."""
    query = {"name": MODEL, "version": version, "path": "slipway/manifest.json"}
    golden = httpx.get(f"{stack.mlflow}/model-versions/get-artifact", params=query, timeout=30).json()["golden"]
    answer = httpx.post(f"{stack.front_door}/endpoints/{MODEL}/invocations", json=golden["input"], timeout=30)
    answer.raise_for_status()
    assert first_difference(golden["output"], answer.json()["predictions"], 1e-6) is None


@pytest.fixture(scope="module")
def deployed(stack: Production) -> dict[str, Any]:
    """The main job; what was published."""
    succeed(stack, "import_bundle", {"bundle_uri": f"file:///inbox/{MODEL}.zip"})
    succeed(stack, "register_model", {"name": MODEL, "alias": "champion"})
    run = succeed(stack, "deploy_mlflow", {"model": MODEL, "alias": "champion"})
    return dict(stack.airflow.xcom(run, "publish"))


def test_the_main_job_runs_unchanged(stack: Production, deployed: dict[str, Any]) -> None:
    assert deployed["url"] == f"{stack.front_door}/endpoints/{MODEL}"
    score(stack, deployed["version"])


def test_a_bundle_comes_in_through_the_models_page(stack: Production, deployed: dict[str, Any]) -> None:
    """Uploaded to the API server, imported by a worker, shown by the API server: they share the bundle store."""
    with stack.browser() as client:
        listed = client.get("/models").raise_for_status().text
        assert MODEL in listed
        [token] = set(re.findall(r'X-CSRF-Token": "([0-9a-f]+)"', listed))
        bundle = (ROOT / "build" / "bundles" / f"{MODEL}.zip").read_bytes()
        headers = {"X-CSRF-Token": token, "X-Filename": "uploaded.zip", "Origin": stack.environment["AIRFLOW_URL"]}
        uri = client.put("/uploads", headers=headers, content=bundle).raise_for_status().json()["uri"]
        form = {"bundle_uri": uri, "name": "uploaded"}
        started = client.post("/import", headers=headers, data=form).raise_for_status().headers["HX-Redirect"]
        dag_id, run_id = started.removeprefix("/slipway/runs/").split("/")
        run = stack.airflow.wait(Run(dag_id, run_id, "queued"), timeout=300)
        assert run.state == "success", stack.airflow.failure(run)
        assert 'href="/slipway/models/uploaded"' in client.get("/models?state=imported").raise_for_status().text
        assert "not registered" in client.get("/models/uploaded").raise_for_status().text
    worker = stack.container("airflow-worker")
    assert docker("exec", worker, "find", "/var/lib/slipway/bundles/.uploads", "-name", "*.zip") == ""


def test_two_workers_work(stack: Production, deployed: dict[str, Any]) -> None:
    for run in [stack.airflow.trigger("undeploy_mlflow", {"model": f"none-{i}"}) for i in range(8)]:
        stack.airflow.wait(run)
    found = stack.airflow.request("GET", "/dags/~/dagRuns/~/taskInstances", params={"limit": 100})["task_instances"]
    assert len({one["hostname"] for one in found if one["hostname"]}) == 2


def test_restarts_in_the_middle_of_a_deploy_end_in_the_same_state(stack: Production, deployed: dict[str, Any]) -> None:
    again = succeed(stack, "register_model", {"name": MODEL, "force": True})
    version = str(stack.airflow.xcom(again, "register")["version"])
    run = stack.airflow.trigger("deploy_mlflow", {"model": MODEL, "version": version})
    wait_for_task(stack, run, "resolve", {"running", "success"})
    docker("restart", "--time", "10", stack.container("postgres"))
    docker("restart", "--time", "10", stack.container("redis"))
    worker = stack.container("airflow-worker", 1)
    docker("kill", worker)
    docker("start", worker)
    run = finished(stack, run)
    assert run.state == "success", stack.airflow.failure(run)
    assert stack.airflow.xcom(run, "publish")["version"] == version
    score(stack, version)
    query = {"name": MODEL, "version": version}
    tags = httpx.get(f"{stack.mlflow}/api/2.0/mlflow/model-versions/get", params=query, timeout=30).json()
    records = [
        json.loads(t["value"]) for t in tags["model_version"]["tags"] if t["key"].startswith("slipway.deployment")
    ]
    assert [record["version"] for record in records] == [version]


def wait_for_task(stack: Production, run: Run, task_id: str, states: set[str]) -> None:
    deadline = time.monotonic() + 120
    while not any(t.task_id == task_id and t.state in states for t in stack.airflow.tasks(run)):
        assert time.monotonic() < deadline
        time.sleep(0.2)


def finished(stack: Production, run: Run) -> Run:
    """The run when it is over; the API server may have lost its database for some seconds."""
    deadline = time.monotonic() + 900
    while True:
        with suppress(AirflowError, httpx.HTTPError):
            run = stack.airflow.run(run)
        if run.state in {"success", "failed"}:
            return run
        assert time.monotonic() < deadline, run
        time.sleep(1)


def test_no_container_is_root_privileged_or_unlimited(stack: Production) -> None:
    for container in stack.containers():
        name, host = container["Name"], container["HostConfig"]
        assert container["Config"]["User"] not in {"", "0", "root", "0:0"}, name
        assert host["CapDrop"] == ["ALL"], name
        assert host["SecurityOpt"] == ["no-new-privileges:true"], name
        assert not host["Privileged"], name
        assert host["Memory"] > 0, name
        assert host["NanoCpus"] > 0, name
        assert host["PidsLimit"] > 0, name
    assert not [line for line in stack.processes if line.startswith("root ") and "docker-init" not in line]


def test_a_secret_is_in_no_log_no_xcom_no_image_no_setting_and_no_process_list(
    stack: Production, deployed: dict[str, Any]
) -> None:
    planted = {
        line.removeprefix("requirepass ")
        for path in stack.secrets.iterdir()
        if path.suffix != ".json"
        for line in path.read_text().splitlines()[:1]
    }
    assert len(planted) >= 12
    logs = stack.compose("logs", "--no-color")
    worker = stack.container("airflow-worker", 2)
    task_logs = docker("exec", worker, "sh", "-c", "cat $(find /var/lib/airflow/logs -type f)")
    runs = stack.airflow.request("GET", "/dags/~/dagRuns/~/taskInstances", params={"limit": 100})["task_instances"]
    xcoms = ""
    for task in runs:
        path = f"/dags/{task['dag_id']}/dagRuns/{task['dag_run_id']}/taskInstances/{task['task_id']}/xcomEntries"
        for entry in stack.airflow.request("GET", path)["xcom_entries"]:
            xcoms += json.dumps(stack.airflow.request("GET", f"{path}/{entry['key']}"))
    image = docker("history", "--no-trunc", "slipway-test/production:bookworm")
    image += docker("inspect", "slipway-test/production:bookworm")
    settings = json.dumps([container["Config"] for container in stack.containers()])
    processes = "\n".join(stack.processes)
    assert "celery" in processes
    assert "task_id" in task_logs or "deploy" in task_logs
    assert "breast-cancer" in xcoms
    places = {
        "logs": logs,
        "task logs": task_logs,
        "XComs": xcoms,
        "image": image,
        "settings": settings,
        "ps": processes,
    }
    assert [place for place, text in places.items() for secret in planted if secret in text] == []


def test_without_secrets_nothing_starts_and_one_sentence_says_why(tmp_path: Path) -> None:
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", "COMPOSE_PROJECT_NAME": "slipwaytestnone"}
    refused = up(environment, cwd=tmp_path)
    assert refused.returncode == 1
    assert refused.stderr.strip() == (
        "slipway: There are no passwords yet, and none is the default: make them with `make secrets`."
    )
    assert refused.stdout == ""
    assert docker("ps", "--all", "--quiet", "--filter", "name=slipwaytestnone") == ""


def test_no_password_has_a_default() -> None:
    text = (ROOT / "docker-compose.yaml").read_text()
    assert "SLIPWAY_SECRETS:-" not in text
    assert "PASSWORD:" not in text
