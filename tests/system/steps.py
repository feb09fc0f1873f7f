"""What the system tests do again and again: make a bundle, take it to an endpoint, score with it."""

from __future__ import annotations

import json
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import httpx

from slipway.web.page.endpoint import COUNTED
from slipway_stack.airflow_api import Run, Task
from tests.stack.running import RunningStack

SAMPLE = {"columns": ["a"], "data": [[1.0], [2.0]]}


def write_bundle(path: Path, code: str, *, sample: Any = SAMPLE, requirements: str = "pandas\n") -> str:
    """Zip a bundle with the given `custom_preprocess.py` and return its URI."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model_bundle/code/custom_preprocess.py", textwrap.dedent(code))
        archive.writestr("model_bundle/artifacts/note.txt", "a bundle of the system tests")
        archive.writestr("model_bundle/requirements.txt", requirements)
        if sample is not None:
            archive.writestr("model_bundle/sample_input.json", json.dumps(sample))
    return path.as_uri()


def constant_bundle(path: Path, answer: str) -> str:
    """A bundle that answers each row with the same label."""
    code = f"""
    class CustomPreprocessor:
        def predict(self, frame):
            return [{answer!r}] * len(frame)
    """
    return write_bundle(path, code)


def register(stack: RunningStack, uri: str, name: str, **conf: Any) -> str:
    """Import and register a bundle; return the version."""
    digest = stack.xcom(stack.succeed("import_bundle", {"bundle_uri": uri, "name": name}), "store")["digest"]
    run = stack.succeed("register_model", {"name": name, "bundle": digest, **conf})
    return str(stack.xcom(run, "register")["version"])


def deploy(stack: RunningStack, model: str, **conf: Any) -> dict[str, Any]:
    """Deploy and return what was published."""
    return dict(stack.xcom(stack.succeed("deploy_mlflow", {"model": model, **conf}), "publish"))


def score(url: str, split: dict[str, Any] | None = None, **options: Any) -> Any:
    """Send rows to an endpoint and return its predictions."""
    response = httpx.post(f"{url}/invocations", json={"dataframe_split": split or SAMPLE}, timeout=30, **options)
    response.raise_for_status()
    return response.json()["predictions"]


def cancelled(stack: RunningStack, run: Run, task_id: str, state: str) -> dict[str, str | None]:
    """Mark a run as failed once one of its tasks is in a state; return how its tasks end, when it is over as failed."""

    def follow(tasks: list[Task]) -> None:
        if any((task.task_id, task.state) == (task_id, state) for task in tasks):
            stack.airflow.request("PATCH", run.path, json={"state": "failed"})

    assert stack.airflow.wait(run, timeout=300, follow=follow).state == "failed"
    return {task.task_id: task.state for task in stack.airflow.tasks(run)}


def check_page(stack: RunningStack, model: str, target: str, endpoint: str, expected: str) -> None:
    """The endpoint's part of the Models page: it is healthy, *Try it* gives the expected label, and is counted."""
    here = f"/slipway/models/{model}/endpoints/{target}/{endpoint}"
    health = stack.airflow.raw("GET", f"{here}/health").text
    assert "Healthy" in health, health
    answer = stack.airflow.raw("POST", f"{here}/try", data={"input": json.dumps({"dataframe_split": SAMPLE})}).text
    assert "prediction" in answer, answer
    assert expected in answer, answer
    figures = stack.airflow.raw("GET", f"{here}/figures")
    if target in COUNTED:
        assert figures.json()["requests"] >= 1, figures.text
    else:
        assert figures.json() == {"error": "This target gives no live figures here: see its own console."}


def version_tags(stack: RunningStack, model: str, version: str) -> dict[str, str]:
    """The tags of a model version in MLflow."""
    query = {"name": model, "version": version}
    answer = httpx.get(f"{stack.mlflow_url}/api/2.0/mlflow/model-versions/get", params=query).json()
    return {tag["key"]: tag["value"] for tag in answer["model_version"].get("tags", [])}


def versions(stack: RunningStack, model: str) -> list[str]:
    """The numbers of a model's versions in MLflow."""
    query = {"filter": f"name='{model}'"}
    answer = httpx.get(f"{stack.mlflow_url}/api/2.0/mlflow/model-versions/search", params=query).json()
    return sorted(v["version"] for v in answer.get("model_versions", []))
