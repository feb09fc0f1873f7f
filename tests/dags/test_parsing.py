"""What parsing a DAG file costs, and what it must not import."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
DAGS = sorted((ROOT / "dags").glob("*.py"))
HEAVY = ("mlflow", "azure", "pandas", "pyspark", "boto3", "docker", "kubernetes")

# In a new interpreter, as the DAG processor would: run the file, then say what it dragged in and how long it took
# next to a DAG that does nothing.
SCRIPT = """
import json, runpy, sys, time
sys.path.insert(0, sys.argv[1])
from airflow.sdk import DAG, BaseHook, BaseOperator, Param
started = time.perf_counter()
runpy.run_path(sys.argv[2])
print(json.dumps({"seconds": time.perf_counter() - started, "modules": sorted(sys.modules)}))
"""


def run_code(code: str, path: Path, tmp_path: Path) -> Any:
    """What a new interpreter prints that is given our plugins and a path."""
    environment = {**os.environ, "AIRFLOW_HOME": str(tmp_path), "AIRFLOW__CORE__LOAD_EXAMPLES": "false"}
    command = [sys.executable, "-c", code, str(ROOT / "plugins"), str(path)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


def run_file(path: Path, tmp_path: Path) -> dict[str, object]:
    return dict(run_code(SCRIPT, path, tmp_path))


@pytest.mark.parametrize("path", [*DAGS, ROOT / "plugins" / "slipway_plugin.py"], ids=lambda p: p.stem)
def test_parsing_imports_nothing_heavy(path: Path, tmp_path: Path) -> None:
    modules = run_file(path, tmp_path)["modules"]
    assert isinstance(modules, list)
    assert [m for m in modules if m.split(".")[0] in HEAVY] == []
    assert [m for m in modules if m.split(".")[0].startswith("slipway_")] == [], "plugins import nothing of include/"


def test_every_dag_is_one_file_of_its_name_with_typed_params(tmp_path: Path) -> None:
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
from airflow.dag_processing.dagbag import DagBag
bag = DagBag(sys.argv[2])
dags = {d.dag_id: [d.fileloc, {k: d.params.get_param(k).schema for k in d.params}] for d in bag.dags.values()}
print(json.dumps({"errors": bag.import_errors, "dags": dags}))
"""
    found = run_code(code, ROOT / "dags", tmp_path)
    assert found["errors"] == {}
    # A file that makes one DAG for each of many things names them `<file>__<thing>`.
    assert {dag_id.partition("__")[0] for dag_id in found["dags"]} == {path.stem for path in DAGS}
    assert [dag_id for dag_id in found["dags"] if "__" in dag_id] == ["scheduled_scoring__breast_cancer_daily"]
    for dag_id, (file, params) in found["dags"].items():
        assert Path(file).stem == dag_id.partition("__")[0]
        for name, schema in params.items():
            assert "type" in schema or "enum" in schema, f"{dag_id}.{name}: the form cannot draw it"
            assert schema.get("title"), f"{dag_id}.{name}: no title"
            assert schema.get("description_md"), f"{dag_id}.{name}: no help"


def test_no_teardown_hides_that_a_task_failed(tmp_path: Path) -> None:
    """Airflow looks at a run's last tasks only, and one above a teardown that fails the run is none of them."""
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
from airflow.dag_processing.dagbag import DagBag
last = [
    [dag.dag_id, [below.task_id for below in task.downstream_list if below.on_failure_fail_dagrun]]
    for dag in DagBag(sys.argv[2]).dags.values() for task in dag.tasks
    if not task.is_teardown and all(below.is_teardown for below in task.downstream_list)
]
print(json.dumps(last))
"""
    last = run_code(code, ROOT / "dags", tmp_path)
    assert {dag_id.partition("__")[0] for dag_id, _ in last} == {path.stem for path in DAGS}
    # The last step of a score workflow itself ends as its run has ended, after the mail about it.
    hidden = {dag_id.partition("__")[0]: below for dag_id, below in last if below}
    assert hidden == {"score_workflow": ["notify"], "scheduled_scoring": ["notify"]}
