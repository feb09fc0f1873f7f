"""What the Spark connection makes of a job: spark-submit's command for each master, and where a password goes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from slipway.errors import UserError
from slipway.hooks.spark import SparkJobHook
from slipway.operators.workflows import ScoreOperator


def command(monkeypatch: pytest.MonkeyPatch, **connection: Any) -> list[str]:
    """What would be run, as the provider builds it."""
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", **connection}))
    submitter = SparkJobHook()._submitter(
        "run-1", ["--plan", "p"], {"spark.task.cpus": "2"}, ["/j/a.jar"], ["/a/m.tar.gz#m"], Path("/c/code.zip")
    )
    return submitter._build_spark_submit_command("job.py")


@pytest.mark.parametrize(
    ("connection", "master"),
    [
        ({"host": "yarn", "extra": {"queue": "night"}}, "yarn"),
        ({"host": "k8s://https://cluster", "port": 6443, "extra": {"namespace": "ml"}}, "k8s://https://cluster:6443"),
        ({"host": "spark://master", "port": 7077}, "spark://master:7077"),
        ({"host": "master", "port": 7077}, "spark://master:7077"),
        ({"host": "local[*]"}, "local[*]"),
    ],
)
def test_each_master_gets_its_command(monkeypatch: pytest.MonkeyPatch, connection: dict[str, Any], master: str) -> None:
    said = command(monkeypatch, **connection)
    assert said[0].endswith("spark-submit")
    assert said[said.index("--master") + 1] == master
    assert said[-3:] == ["job.py", "--plan", "p"]
    options = {said[said.index(option) + 1] for option in ("--jars", "--archives", "--py-files", "--name")}
    assert options == {"/j/a.jar", "/a/m.tar.gz#m", "/c/code.zip", "slipway run-1"}
    assert "spark.task.cpus=2" in said
    assert "--deploy-mode" not in said or said[said.index("--deploy-mode") + 1] == "client"
    assert ("night" in said) == (master == "yarn")
    assert ("spark.driver.host=127.0.0.1" in said) == master.startswith("local")


def test_deploy_mode_cluster_is_refused_before_anything_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    extra = {"deploy-mode": "cluster"}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps({"conn_type": "spark", "host": "yarn", "extra": extra}))
    with pytest.raises(UserError, match="deploy-mode cluster"):
        SparkJobHook().run({}, conf={}, jars=[], archives={}, code=None, announce=lambda _: None)


def test_a_password_goes_into_the_plan_and_not_into_what_was_resolved(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_CELLS", json.dumps({"conn_type": "jdbc", "login": "ann", "password": "dont-tell"}))
    node = {"id": "cells", "type": "read", "connection": "cells", "options": {"url": "jdbc:x", "dbtable": "t"}}
    resolved = {"plan": {"nodes": [node]}}
    before = json.dumps(resolved)
    made = ScoreOperator(task_id="score", resolved=resolved)._with_credentials(node)
    assert made["options"] == {"url": "jdbc:x", "dbtable": "t", "user": "ann", "password": "dont-tell"}
    assert json.dumps(resolved) == before, "a retry finds the connection's name again, and XCom never the password"
    said = capfd.readouterr()
    assert "dont-tell" not in said.out + said.err
    with pytest.raises(UserError, match="Connection 'nobody' of node 'cells' does not exist"):
        ScoreOperator(task_id="score", resolved={})._with_credentials({**node, "connection": "nobody"})
