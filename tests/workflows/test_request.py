"""The six strings of a call: what they may say, and hostile ones."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipway.errors import UserError
from slipway.workflows import catalog, planning, request, values
from slipway.workflows.spark_config import parse_lib_jars, parse_spark_config

ROOT = Path(__file__).parents[2]
DEFINITION = """
id: 3
name: sample
description: A sample.
parameters:
  - {name: input, type: path, default: data/cells.csv}
  - {name: region, type: string, default: eu}
  - {name: day, type: date, required: true}
  - {name: least, type: number, default: 0.5}
  - {name: all, type: boolean, default: false}
  - {name: most, type: integer, default: 5}
nodes:
  - {id: cells, type: read, format: csv, path: "${input}"}
  - id: chosen
    type: sql
    inputs: [cells]
    sql: "SELECT * FROM cells WHERE day = :day AND :all AND x < :most + :least"
  - {id: scored, type: score, input: chosen, model: m}
  - {id: out, type: write, input: scored, path: "out/${region}"}
"""
SAMPLE = catalog.parse(DEFINITION.encode(), "x.yaml")


@pytest.mark.parametrize(
    "text",
    ["--day 2026-11-02 --region us --most 7", "--day=2026-11-02 --region='us' --most=7",
     '{"day": "2026-11-02", "region": "us", "most": 7}'],
)  # fmt: skip
def test_parameters_come_as_pairs_or_json(text: str) -> None:
    found = request.check(SAMPLE, {"programParameters": text}).values
    assert found["day"] == ("date", "2026-11-02")
    assert found["region"] == ("string", "us")
    assert found["most"] == ("integer", "7")
    assert found["least"] == ("number", "0.5")
    assert found["all"] == ("boolean", "false")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "needs parameter 'day'"),
        ("string", "write --name value"),
        ("--day", "gives '--day' no value"),
        ("--day 2026-11-02 --day 2026-11-03", "twice"),
        ('{"day": "2026-11-02", "day": "2026-11-03"}', "twice"),
        ('{"day": ["2026-11-02"]}', "single values"),
        ('{"day": ', "is none"),
        ("[" * 100_000, "at most"),
        ("{" + '"a":{' * 5000, "at most"),
        ("--day tomorrow", "give a date"),
        ("--day 2026-11-02 --most 1e9", "whole number"),
        ("--day 2026-11-02 --most " + "9" * 40, "whole number"),
        ("--day 2026-11-02 --least nan", "a number"),
        ("--day 2026-11-02 --all perhaps", "true or false"),
        ("--day 2026-11-02 --nobody x", "no parameter 'nobody'"),
        ("--day '2026-11-02", "open quote"),
        ("--day 2026-11-02 --input 'a\nb'", "one line"),
        ("--day 2026-11-02 --region 'a\0b'", "NUL"),
    ],
)
def test_wrong_parameters_are_refused(text: str, said: str) -> None:
    with pytest.raises(request.WrongRequest, match=said) as refused:
        request.check(SAMPLE, {"programParameters": text})
    assert [problem.field for problem in refused.value.problems] == ["programParameters"]


@pytest.mark.parametrize(
    "region", ["../..", "..", ".hidden", "a/b", "*", "a,b", "{a,b}", "$HOME", "a b", "é", "", "a\\b"]
)
def test_a_value_in_a_path_is_a_name_and_nothing_else(region: str) -> None:
    text = json.dumps({"day": "2026-11-02", "region": region})
    checked = request.check(SAMPLE, {"programParameters": text})
    with pytest.raises(UserError, match="region"):
        planning.nodes_of(SAMPLE, ROOT / "include/workflows/x.yaml", checked.values)


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd", "file:///etc/passwd", "../../../etc/passwd", "data/../../../../../../etc", "s3a://other/bucket",
     "jdbc:derby:x", "hdfs://host/", "data/{a,/etc/passwd}", "file:/etc/shadow", "FILE:///etc/passwd", "file:%2Fetc"],
)  # fmt: skip
def test_a_callers_path_stays_where_callers_may_go(path: str, home: Path) -> None:
    checked = request.check(SAMPLE, {"programParameters": json.dumps({"day": "2026-11-02", "input": path})})
    with pytest.raises(UserError, match="not below"):
        planning.nodes_of(SAMPLE, home / "x.yaml", checked.values)


def test_a_link_does_not_lead_out(home: Path) -> None:
    (home / "data").mkdir()
    (home / "data" / "out").symlink_to("/etc")
    text = json.dumps({"day": "2026-11-02", "input": f"{home}/data/out/passwd"})
    with pytest.raises(UserError, match="not below"):
        planning.nodes_of(SAMPLE, home / "x.yaml", request.check(SAMPLE, {"programParameters": text}).values)
    text = json.dumps({"day": "2026-11-02", "input": f"{home}/data/in.csv"})
    nodes = planning.nodes_of(SAMPLE, home / "x.yaml", request.check(SAMPLE, {"programParameters": text}).values)
    assert nodes[0]["path"] == f"{home}/data/in.csv"


@pytest.mark.parametrize(
    "rejects", ["out/eu", "out/eu/", "out/x/../eu", "out/eu/bad", "{scores}/out/eu", "file:{scores}/out/eu"]
)
def test_outputs_that_parameters_bring_together_are_refused(home: Path, rejects: str) -> None:
    place = rejects.format(scores=home / "scores")
    definition = catalog.parse(DEFINITION.encode() + f"rejects: {{path: '{place}'}}\n".encode(), "x.yaml")

    def nodes(**more: str) -> list[dict[str, Any]]:
        text = json.dumps({"day": "2026-11-02", "input": f"{home}/data/in.csv", **more})
        values = request.check(definition, {"programParameters": text}).values
        return planning.nodes_of(definition, home / "x.yaml", values)

    with pytest.raises(UserError, match="write to one place"):
        nodes()
    assert nodes(region="us")[-1]["path"].endswith("out/us")


def test_sql_takes_values_and_never_text() -> None:
    hostile = "2026-11-02' OR '1'='1"
    with pytest.raises(request.WrongRequest, match="give a date"):
        request.check(SAMPLE, {"programParameters": json.dumps({"day": hostile})})
    nodes = planning.nodes_of(SAMPLE, ROOT / "include/workflows/x.yaml", values_with("2026-11-02"))
    assert ":day" in nodes[1]["sql"]
    assert nodes[1]["markers"] == ["all", "day", "least", "most"]


def values_with(day: str) -> Any:
    return request.check(SAMPLE, {"programParameters": json.dumps({"day": day})}).values | {
        "input": ("string", "cells.csv")
    }


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", {}),
        ("--conf spark.executor.memory=2g -c spark.task.cpus=2", {"spark.executor.memory": "2g", "spark.task.cpus": "2"}),  # noqa: E501  # one case a line
        ("--executor-memory 2g --num-executors=4", {"spark.executor.memory": "2g", "spark.executor.instances": "4"}),
        ('{"spark.sql.shuffle.partitions": 8, "spark.sql.ansi.enabled": false}',
         {"spark.sql.shuffle.partitions": "8", "spark.sql.ansi.enabled": "false"}),
    ],
)  # fmt: skip
def test_spark_settings_come_as_options_or_json(text: str, found: dict[str, str]) -> None:
    assert parse_spark_config(text) == found


REFUSED = [
    "spark.driver.extraJavaOptions=-javaagent:/tmp/x.jar", "spark.executor.extraJavaOptions=-Dx=y",
    "spark.driver.defaultJavaOptions=-agentpath:/x", "spark.driver.extraClassPath=/tmp", "spark.jars=http://evil/x.jar",
    "spark.jars.packages=a:b:1", "spark.jars.ivySettings=/x", "spark.submit.pyFiles=/tmp/x.py", "spark.files=/etc/passwd",  # noqa: E501  # one case a line
    "spark.archives=/x", "spark.plugins=evil.Plugin", "spark.extraListeners=evil.L", "spark.sql.extensions=evil.E",
    "spark.sql.queryExecutionListeners=evil.L", "spark.sql.catalog.x=evil.C", "spark.pyspark.python=/tmp/evil",
    "spark.pyspark.driver.python=/tmp/evil", "spark.driver.extraLibraryPath=/tmp", "spark.master=spark://evil:7077",
    "spark.sql.sources.commitProtocolClass=e", "spark.sql.parquet.output.committer.class=e", "spark.serializer=e",
    "spark.shuffle.manager=evil", "spark.hadoop.fs.file.impl=evil", "spark.executorEnv.LD_PRELOAD=/x",
    "spark.yarn.appMasterEnv.X=y", "spark.kubernetes.container.image=evil", "spark.sql.warehouse.dir=/etc",
    "spark.eventLog.dir=/etc", "spark.local.dir=/etc", "spark.redaction.regex=x", "spark.python.daemon.module=evil",
    "spark.python.worker.module=evil", "spark.worker.resource.x.discoveryScript=/x", "spark.driver.userClassPathFirst=true",  # noqa: E501  # one case a line
    "spark.executor.plugins=e", "spark.metrics.conf=/x", "spark.ui.filters=evil", "spark.sql.optimizer.excludedRules=x",
    "spark.dynamicAllocation.x.class=e", "spark.log.structuredLogging.enabled=true", "spark.authenticate=false",
]  # fmt: skip


@pytest.mark.parametrize("setting", REFUSED)
def test_settings_that_run_code_are_refused(setting: str) -> None:
    with pytest.raises(UserError, match="callers may not"):
        parse_spark_config(f"--conf {setting}")
    key, _, value = setting.partition("=")
    with pytest.raises(UserError, match="callers may not"):
        parse_spark_config(json.dumps({key: value}))


def test_configuration_may_allow_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__SLIPWAY__SPARK_SETTINGS_ALLOWED", "spark.hadoop.fs.s3a.*, spark.local.dir")
    assert parse_spark_config("--conf spark.hadoop.fs.s3a.endpoint=x") == {"spark.hadoop.fs.s3a.endpoint": "x"}
    with pytest.raises(UserError):
        parse_spark_config("--conf spark.hadoop.fs.file.impl=x")


@pytest.mark.parametrize(
    "text",
    ["--jars x.jar", "--class Evil", "--py-files x.py", "--driver-java-options -x", "--proxy-user root", "; rm -rf /",
     "--conf", "--conf spark.x", "$(id)", "--conf 'spark.task.cpus=1\n--jars x'", "--conf =x", "--conf Xspark.a=b",
     '{"spark.task.cpus": {}}', '{"spark.task.cpus"', '["a"]', "--conf spark.task.cpus=1 --conf spark.task.cpus=2",
     "--conf spark.task.cpus=", "x" * 20_000, "--conf 'a", "--verbose", "app.py"],
)  # fmt: skip
def test_what_is_no_setting_is_refused_in_one_sentence(text: str) -> None:
    with pytest.raises(UserError) as refused:
        parse_spark_config(text)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 700


@given(st.text(max_size=200))
def test_no_text_is_taken_for_more_than_it_is(text: str) -> None:
    for parse in (parse_spark_config, request.parse_program_parameters):
        try:
            found = parse(text)
        except UserError:
            continue
        assert all(isinstance(key, str) for key in found)


def test_jars_lie_where_they_may(home: Path) -> None:
    (home / "jars").mkdir()
    (home / "jars" / "a.jar").touch()
    (home / "b.jar").touch()
    (home / "jars" / "link.jar").symlink_to(home / "b.jar")
    assert parse_lib_jars(f"a.jar, {home}/jars/a.jar,file://{home}/jars/a.jar") == [f"{home}/jars/a.jar"] * 3
    for wrong in ("b.jar", f"{home}/b.jar", "../b.jar", "link.jar", "http://x/a.jar", "ivy://a:b:1", "string", "a.jar#x",  # noqa: E501  # one case a line
                  f"hdfs://x{home}/jars/a.jar", f"file://host{home}/jars/a.jar"):  # fmt: skip
        with pytest.raises(UserError, match="libJars names"):
            parse_lib_jars(wrong)


@pytest.mark.parametrize(
    "text", ["nobody", "a@b\nBcc: c@d", "a@b\r", "a@b, <x>", "@b", "a@", "a@b c@d", ",".join(["a@b.c"] * 51)]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(UserError):
        request.parse_emails("emailOnSuccess", text)


def test_addresses_are_separated_by_commas() -> None:
    assert request.parse_emails("emailOnFailure", "a@b.example, c.d+e@f.example,") == ["a@b.example", "c.d+e@f.example"]
    assert request.parse_emails("emailOnFailure", None) == []


def test_every_wrong_field_is_told() -> None:
    wrong = {"programParameters": "x", "sparkConfig": "x", "libJars": "x", "emailOnSuccess": "x", "emailOnFailure": "x"}
    with pytest.raises(request.WrongRequest) as refused:
        request.check(SAMPLE, wrong)
    assert {problem.field for problem in refused.value.problems} == set(wrong)


@given(st.dates())
def test_a_date_comes_through_unchanged(day: date) -> None:
    assert values.convert("day", "date", day) == day.isoformat()
