"""Score workflows through a real Airflow: the requirement's call, the form's params, mail, cancel, a backfill."""

from __future__ import annotations

import json
import shlex
import subprocess
import time
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest

from slipway_stack.airflow_api import Run
from tests.stack.running import RunningStack
from tests.system.steps import deploy, register

pytestmark = pytest.mark.requires("java")

ROOT = Path(__file__).parents[2]
DAG = "score_workflow"
PATIENTS = 569


@pytest.fixture(scope="module")
def champion(stack: RunningStack) -> str:
    """The breast-cancer sample, registered as champion."""
    return register(stack, (ROOT / "build/bundles/breast-cancer.zip").as_uri(), "breast-cancer", alias="champion")


@pytest.fixture(scope="module")
def cookies(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Airflow's login cookie as curl keeps it, made as docs/workflows.md says."""
    path = tmp_path_factory.mktemp("login") / "cookies.txt"
    token = httpx.post(
        f"{stack.airflow_url}/auth/token", json={"username": "admin", "password": stack.keys.password}
    ).json()["access_token"]
    path.write_text(f"127.0.0.1\tFALSE\t/\tFALSE\t0\t_token\t{token}\n")
    return path


def scored(path: str) -> dict[int, tuple[str, float]]:
    """The published diagnoses by patient."""
    rows = pq.read_table(path).to_pylist()
    return {int(row["patient"]): (row["diagnosis"], row["probability"]) for row in rows}


@pytest.mark.requires("curl")
def test_the_requirements_curl_scores_as_the_live_endpoint_does(
    stack: RunningStack, champion: str, cookies: Path
) -> None:
    body = (
        '{"emailOnFailure": "", "emailOnSuccess": "", "libJars": "", '
        '"programParameters": "--input data/cells.csv", "sparkConfig": "--conf spark.sql.shuffle.partitions=2", '
        '"workflowId": 1}'
    )
    call = (
        "curl -sS -X POST --header 'Content-Type: application/json' --header 'Accept: application/json' "
        f"-d {shlex.quote(body)} '{stack.airflow_url}/api/v1/workflow/execute' -b {cookies}"
    )
    said = subprocess.run(["bash", "-c", call], capture_output=True, text=True, check=True).stdout
    started = json.loads(said)
    assert started.get("state") in {"queued", "running"}, said
    assert started["workflowId"] == 1
    ended = wait(stack, started["executionId"])
    assert ended["state"] == "success", ended
    assert ended["counts"] == {"in": PATIENTS, "scored": PATIENTS, "rejected": 0, "written": PATIENTS}
    assert ended["sparkApplication"]

    output = ended["outputs"][0]
    assert output["path"] == f"{stack.stack.home}/scores/breast-cancer/execution={started['executionId']}"
    ours = scored(output["path"])
    assert len(ours) == PATIENTS
    endpoint = deploy(stack, "breast-cancer", version=champion)["url"]
    table = (ROOT / "include/workflows/data/cells.csv").read_bytes()
    answer = httpx.post(f"{endpoint}/invocations", content=table, headers={"Content-Type": "text/csv"}, timeout=60)
    theirs = answer.json()["predictions"]
    assert [row["diagnosis"] for row in theirs] == [ours[patient][0] for patient in range(PATIENTS)]
    assert [row["probability"] for row in theirs] == pytest.approx([ours[p][1] for p in range(PATIENTS)], rel=1e-9)

    run = Run(DAG, started["executionId"], "success")
    log = stack.task_log(run, "score")
    assert "rows written" in log
    assert stack.airflow.request("GET", f"{run.path}/taskInstances/score/links")["extra_links"]["Spark application"]


def test_the_form_and_airflows_own_api_give_the_same(stack: RunningStack, champion: str) -> None:
    run = stack.succeed(DAG, {"workflowId": 1})
    published = stack.xcom(run, "publish")
    assert published["counts"]["written"] == PATIENTS
    assert published["models"] == {"scored": f"Model breast-cancer version {champion}"}
    mine = published["outputs"][0]["path"]
    others = [p for p in Path(mine).parent.glob("execution=*") if str(p) != mine]
    assert all(scored(str(other)) == scored(mine) for other in others)


@pytest.mark.parametrize(
    ("fields", "status", "said"),
    [
        ({"workflowId": 99}, 404, "There is no workflow 99: the known ones are 1 (breast-cancer)"),
        ({"workflowId": "1"}, 422, "workflowId"),
        ({"workflowId": 1, "extra": ""}, 422, "extra"),
        ({"workflowId": 1, "programParameters": "string"}, 422, "write --name value"),
        ({"workflowId": 1, "sparkConfig": "--conf spark.driver.extraJavaOptions=-javaagent:/x"}, 422, "may not"),
        ({"workflowId": 1, "libJars": "string"}, 422, "libJars"),
        ({"workflowId": 1, "emailOnSuccess": "a@b.example\r\nBcc: c@d.example"}, 422, "emailOnSuccess"),
    ],
)
def test_a_wrong_call_is_told_which_field_breaks_which_rule(
    stack: RunningStack, fields: dict[str, Any], status: int, said: str
) -> None:
    answer = stack.airflow.raw("POST", "/api/v1/workflow/execute", json=fields)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["message"]


def test_who_has_no_login_or_comes_from_elsewhere_is_refused(stack: RunningStack, cookies: Path) -> None:
    url = f"{stack.airflow_url}/api/v1/workflow"
    assert httpx.get(url).status_code == 401
    assert httpx.post(f"{url}/execute", json={"workflowId": 1}).status_code == 401
    assert httpx.get(url, headers={"Authorization": "Bearer nonsense"}).status_code == 403
    cookie = {"_token": cookies.read_text().split()[-1]}
    assert httpx.get(url, cookies=cookie).status_code == 200
    for headers in ({"Origin": "http://elsewhere.example"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = httpx.post(f"{url}/execute", json={"workflowId": 1}, cookies=cookie, headers=headers)
        assert answer.status_code == 403, headers
    plain = httpx.post(f"{url}/execute", content='{"workflowId": 1}', cookies=cookie)
    assert plain.status_code in {415, 422}


def test_definitions_pictures_and_openapi_are_published(stack: RunningStack) -> None:
    listed = stack.airflow.raw("GET", "/api/v1/workflow").json()
    assert [w["name"] for w in listed["workflows"]] == ["breast-cancer", "breast-cancer-daily"]
    assert listed["broken"] == {}
    picture = stack.airflow.raw("GET", "/api/v1/workflow/1/graph.svg")
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert "breast-cancer@champion" in picture.text
    spec = stack.airflow.raw("GET", "/api/v1/openapi.json").json()
    assert "/workflow/execute" in spec["paths"]


def test_a_workflow_whose_model_is_not_registered_is_refused(stack: RunningStack, champion: str) -> None:
    alias = {"name": "breast-cancer", "alias": "champion"}
    mlflow = f"{stack.mlflow_url}/api/2.0/mlflow/registered-models/alias"
    httpx.request("DELETE", mlflow, json=alias).raise_for_status()
    try:
        answer = stack.airflow.raw("POST", "/api/v1/workflow/execute", json={"workflowId": 1})
        assert answer.status_code == 422, answer.text
        assert "has no alias 'champion'" in answer.json()["message"]
        (problem,) = stack.airflow.raw("GET", "/api/v1/workflow/1").json()["problems"]
        assert "has no alias 'champion'" in problem
    finally:
        httpx.post(mlflow, json={**alias, "version": champion}).raise_for_status()
    assert stack.airflow.raw("GET", "/api/v1/workflow/1").json()["problems"] == []


def test_a_run_that_no_retry_heals_fails_at_once_in_one_sentence(stack: RunningStack, champion: str) -> None:
    task, sentence = stack.fail(DAG, {"workflowId": 1, "programParameters": "--input data/nothing.csv"})
    assert task == "score"
    assert "Node 'cells'" in sentence
    assert "nothing.csv" in sentence
    task, sentence = stack.fail(DAG, {"workflowId": 1, "programParameters": "--input /etc/passwd"})
    assert task == "resolve"
    assert "is not below" in sentence


def test_a_paused_dag_refuses_an_execution(stack: RunningStack, champion: str) -> None:
    stack.airflow.request("PATCH", f"/dags/{DAG}", json={"is_paused": True})
    try:
        refused = stack.airflow.raw("POST", "/api/v1/workflow/execute", json={"workflowId": 1})
    finally:
        stack.airflow.request("PATCH", f"/dags/{DAG}", json={"is_paused": False})
    assert refused.status_code == 409
    sentence = "DAG 'score_workflow' is paused in Airflow: switch it on there first."
    assert refused.json() == {"error_code": "RESOURCE_CONFLICT", "message": sentence}


def test_cancelling_stops_spark_and_publishes_nothing(stack: RunningStack, champion: str) -> None:
    started = stack.airflow.raw("POST", "/api/v1/workflow/execute", json={"workflowId": 1}).json()
    run = Run(DAG, started["executionId"], "running")
    until(lambda: any(t.task_id == "score" and t.state == "running" for t in stack.airflow.tasks(run)), 60)
    until(lambda: drivers(started["executionId"]), 60)
    cancelled = stack.airflow.raw("DELETE", f"/api/v1/workflow/execution/{started['executionId']}").json()
    assert cancelled["state"] in {"cancelling", "cancelled"}
    assert cancelled["error"].startswith("Cancelled by admin")
    until(lambda: not drivers(started["executionId"]), 90)
    assert wait(stack, started["executionId"])["state"] == "cancelled"
    assert not (stack.stack.home / "scores/breast-cancer" / f"execution={started['executionId']}").exists()
    again = stack.airflow.raw("DELETE", f"/api/v1/workflow/execution/{started['executionId']}")
    assert again.status_code == 409


def wait(stack: RunningStack, execution: str) -> dict[str, Any]:
    """The execution when it is over, by the API's own wait."""
    for _ in range(10):
        found = stack.airflow.raw("GET", f"/api/v1/workflow/execution/{execution}", params={"wait": 50}).json()
        if found["state"] not in {"queued", "running", "cancelling"}:
            break
    return dict(found)


def until(is_so: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.5)


def drivers(execution: str) -> list[int]:
    """The processes of an execution's Spark driver on this machine."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"slipway {execution}".encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
