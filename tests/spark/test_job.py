"""The job on an embedded Spark: what is scored, what is rejected, what fails, and with which sentence."""

from __future__ import annotations

import gzip
import json
import os
import venv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slipway_spark.errors import JobError, WrongInput, explain
from slipway_spark.job import run

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

pytestmark = pytest.mark.requires("java")

DOUBLE = """
class CustomPreprocessor:
    def predict(self, frame):
        return frame[["x"]] * 2
"""
WITHOUT = """
import importlib.util
assert importlib.util.find_spec("only_there") is None, "another model's package"
"""
PICKY = """
import os
class CustomPreprocessor:
    def predict(self, frame):
        print("the model prints this")
        if (frame["x"] < 0).any():
            raise ValueError("negative")
        return {"twice": frame["x"] * 2, "pid": [os.getpid()] * len(frame)}
"""
NUMBERS = {"x": "double"}
Make = Callable[..., Any]


def write_csv(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def published(result: dict[str, Any]) -> pd.DataFrame:
    return pq.read_table(result["outputs"][0]["path"]).to_pandas()


def rejected(result: dict[str, Any]) -> pd.DataFrame:
    return pq.read_table(result["rejects"]["path"]).to_pandas().sort_values("row", ignore_index=True)


def test_rows_that_cannot_be_cast_or_scored_are_rejected_with_a_reason(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", "id,x", "1,1.5", "2,abc", "3,-1", "4,2", "5,", "6,1e3")
    use = model(PICKY, NUMBERS, {"twice": "double", "pid": "long"})
    result = run(spark, plan(source, use, keep=["id"]))
    assert result["counts"] == {"in": 6, "scored": 4, "rejected": 2, "written": 4}
    assert dict(zip(published(result)["id"], published(result)["twice"].fillna(-9), strict=True)) == {
        "1": 3.0, "4": 4.0, "5": -9.0, "6": 2000.0,
    }  # fmt: skip
    reasons = rejected(result)
    assert [json.loads(row)["id"] for row in reasons["row"]] == ["2", "3"]
    assert reasons["reason"][0] == "Column 'x' is not a number, as the model's signature asks."
    assert reasons["reason"][1] == "The model cannot score the row (ValueError: negative)."
    assert set(published(result)["pid"]) != {os.getpid()}, "user code runs in a process of its own"


def test_a_schema_rejects_what_does_not_fit_it(spark: SparkSession, model: Make, plan: Make, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", "id,x", "1,1.5", "two,2", "3", "4,4,4")
    use = model(DOUBLE, NUMBERS, {"twice": "double"})
    result = run(spark, plan(source, use, schema="id INT, x DOUBLE", keep=["id"]))
    assert list(published(result)["id"]) == [1]
    assert list(rejected(result)["row"]) == ["3", "4,4,4", "two,2"]
    assert set(rejected(result)["node"]) == {"rows"}


@pytest.fixture
def other_environment(tmp_path: Path) -> Path:
    """A virtual environment with a package more than the other has."""
    folder = tmp_path / "other-environment"
    venv.create(folder, symlinks=True, with_pip=False)
    (packages,) = folder.glob("lib/python*/site-packages")
    (packages / "only_there.py").write_text("FACTOR = 3")
    (packages / "all-others.pth").write_text(str(Path(pd.__file__).parents[1]))
    return folder


def test_two_models_with_modules_of_one_name_and_other_environments_stand_in_one_workflow(
    spark: SparkSession, model: Make, plan: Make, other_environment: Path, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", "x", "1", "2")
    first = model(WITHOUT + DOUBLE, NUMBERS, {"twice": "double"}, "first")
    more = "import only_there\n" + DOUBLE.replace("* 2", "* only_there.FACTOR")
    second = model(more, NUMBERS, {"thrice": "double"}, "second")
    second["environment"] = str(other_environment)
    made = plan(source, first)
    again = {**made.nodes[1], "id": "again", "input": "scored", "names": ["thrice"]}
    both = plan(source, first, nodes=[*made.nodes[:2], again, {**made.nodes[2], "input": "again"}],
                models={"scored": first, "again": second})  # fmt: skip
    result = run(spark, both)
    assert published(result).sort_values("x")[["twice", "thrice"]].to_numpy().tolist() == [[2, 3], [4, 6]]
    assert result["counts"] == {"in": 2, "scored": 2, "rejected": 0, "written": 2}, "no row is told twice"


def test_a_model_is_loaded_once_a_worker_and_kept_for_the_next_task(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path
) -> None:
    pd.DataFrame({"x": [float(n) for n in range(2000)]}).to_parquet(tmp_path / "in.parquet")
    use = model(PICKY, NUMBERS, {"twice": "double", "pid": "long"})
    pids: set[int] = set()
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "100")
    for attempt in range(3):
        made = plan(tmp_path / "in.parquet", use, execution=f"run-{attempt}")
        pids |= set(published(run(spark, made))["pid"])
    spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    assert len(pids) <= 2, "sixty batches in three jobs, and at most one process for each of the two workers"


def test_everything_may_be_rejected_and_a_stated_share_fails(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", "x", *(["-1"] * 40))
    use = model(PICKY, NUMBERS, {"twice": "double", "pid": "long"})
    result = run(spark, plan(source, use))
    assert result["counts"] == {"in": 40, "scored": 0, "rejected": 40, "written": 0}
    limit = {"path": str(tmp_path / "rejects"), "max_share": 0.5}
    with pytest.raises(WrongInput, match=r"rejects 40 of 40 rows, more than the share of 0\.5"):
        run(spark, plan(source, use, execution="run-2", rejects=limit))
    assert (tmp_path / "rejects/execution=run-2").is_dir(), "the rejects are there to be looked at"
    assert not (tmp_path / "out/execution=run-2").exists()


def test_a_rerun_replaces_its_own_output_and_rejects(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path
) -> None:
    use = model(PICKY, NUMBERS, {"twice": "double", "pid": "long"})
    source = write_csv(tmp_path / "in.csv", "x", "1", "-1")
    run(spark, plan(source, use))
    run(spark, plan(source, use, execution="run-2"))
    write_csv(source, "x", "5")
    result = run(spark, plan(source, use, attempt="try-2"))
    assert list(published(result)["twice"]) == [10.0]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"execution=run-1", "execution=run-2"}
    assert {p.name for p in (tmp_path / "rejects").iterdir()} == {"execution=run-2"}


def mixed_schemas(path: Path) -> None:
    path.mkdir()
    pd.DataFrame({"x": [1.0]}).to_parquet(path / "a.parquet")
    pd.DataFrame({"x": ["text"]}).to_parquet(path / "b.parquet")


BROKEN_INPUT: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: None, "does not exist"),
    "an empty folder": (lambda p: p.mkdir(), "infer"),
    "no parquet": (lambda p: p.write_bytes(b"nothing of the kind" * 50), "cannot be read"),
    "an empty file": (lambda p: p.write_bytes(b""), "cannot be read"),
    "truncated": (lambda p: p.write_bytes(truncated(p)), "cannot be read"),
    "mixed schemas": (mixed_schemas, "cannot be read"),
    "other columns": (lambda p: pd.DataFrame({"y": [1.0]}).to_parquet(p), "needs the columns x"),
    "another type": (lambda p: pd.DataFrame({"x": [b"1"]}).to_parquet(p), "cast it in a sql node"),
}


def truncated(path: Path) -> bytes:
    pd.DataFrame({"x": [1.0] * 1000}).to_parquet(path)
    return path.read_bytes()[:-40]


@pytest.mark.parametrize("kind", BROKEN_INPUT)
def test_broken_input_fails_in_one_sentence_and_publishes_nothing(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path, kind: str
) -> None:
    make, said = BROKEN_INPUT[kind]
    make(tmp_path / "in.parquet")
    use = model(DOUBLE, NUMBERS, {"twice": "double"})
    with pytest.raises(JobError) as failed:
        run(spark, plan(tmp_path / "in.parquet", use))
    assert isinstance(failed.value, WrongInput), failed.value
    assert "Node '" in str(failed.value)
    assert said in str(failed.value)
    assert "\n" not in str(failed.value)
    assert not list((tmp_path / "out").glob("execution=*")), "nothing is half-visible"


def test_a_column_may_be_called_reason(spark: SparkSession, model: Make, plan: Make, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", "reason,x", "because,1")
    result = run(spark, plan(source, model(DOUBLE, NUMBERS, {"twice": "double"}), schema="reason STRING, x DOUBLE"))
    assert published(result)[["reason", "twice"]].to_numpy().tolist() == [["because", 2.0]]


def test_an_empty_table_gives_an_empty_output(spark: SparkSession, model: Make, plan: Make, tmp_path: Path) -> None:
    pd.DataFrame({"x": pd.Series(dtype=float)}).to_parquet(tmp_path / "in.parquet")
    result = run(spark, plan(tmp_path / "in.parquet", model(DOUBLE, NUMBERS, {"twice": "double"})))
    assert result["counts"] == {"in": 0, "scored": 0, "rejected": 0, "written": 0}


def test_huge_rows_and_skew_pass(spark: SparkSession, model: Make, plan: Make, tmp_path: Path) -> None:
    (tmp_path / "in.parquet").mkdir()
    huge = pa.table({"x": [1.0] * 4, "note": ["x" * 8_000_000] * 4})
    pq.write_table(huge, tmp_path / "in.parquet" / "a.parquet")
    pq.write_table(pa.table({"x": [2.0] * 60_000, "note": ["-"] * 60_000}), tmp_path / "in.parquet" / "b.parquet")
    use = model(DOUBLE, NUMBERS, {"twice": "double"})
    result = run(spark, plan(tmp_path / "in.parquet", use))
    assert result["counts"]["written"] == 60_004


def test_other_formats_and_compression(spark: SparkSession, model: Make, plan: Make, tmp_path: Path) -> None:
    with gzip.open(tmp_path / "in.json.gz", "wt") as file:
        file.write('{"x": 1}\n{"x": "2"}\nnot json\n')
    use = model(DOUBLE, NUMBERS, {"twice": "double"})
    result = run(spark, plan(tmp_path / "in.json.gz", use, format="json", schema="x STRING"))
    assert sorted(published(result)["twice"]) == [2.0, 4.0]
    assert list(rejected(result)["row"]) == ["not json"]


@pytest.mark.parametrize(
    ("code", "said", "kind"),
    [
        ("raise RuntimeError('no GPU')", "no GPU", WrongInput),
        ("import nothing_of_that_name", "nothing_of_that_name", WrongInput),
        (
            "class CustomPreprocessor:\n    def predict(self, frame):\n        import os\n        os._exit(9)",
            "status 9",
            JobError,
        ),
    ],
)
def test_a_model_that_does_not_load_or_dies_fails_the_job_with_its_sentence(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path, code: str, said: str, kind: type[JobError]
) -> None:
    source = write_csv(tmp_path / "in.csv", "x", "1", "2")
    with pytest.raises(JobError, match=said) as failed:
        run(spark, plan(source, model(code, NUMBERS, {"twice": "double"})))
    assert "\n" not in str(failed.value)
    assert type(failed.value) is kind, "only what may pass is tried again"


@pytest.mark.parametrize("options", [{}, {"mergeSchema": "false"}], ids=["short", "general"])
def test_a_row_that_kills_the_models_process_is_rejected_alone(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path, options: dict[str, str]
) -> None:
    pd.DataFrame({"x": [1.0, 2.0, -1.0, 4.0]}).to_parquet(tmp_path / "in.parquet")
    crash = DOUBLE.replace("return", "import os; (frame['x'] < 0).any() and os._exit(9); return")
    use = model(crash, NUMBERS, {"twice": "double"})
    result = run(spark, plan(tmp_path / "in.parquet", use, options=options))
    assert sorted(published(result)["twice"]) == [2.0, 4.0, 8.0]
    (row,) = rejected(result).to_dict("records")
    assert (json.loads(row["row"]), row["node"]) == ({"x": -1.0}, "scored")
    assert row["reason"] == "The model's process ended with status 9 on this row: it crashed, or ran out of memory."


def test_an_output_of_another_kind_rejects_its_rows(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "in.csv", "x", "1")
    words = "class CustomPreprocessor:\n    def predict(self, frame):\n        return ['a'] * len(frame)"
    result = run(spark, plan(source, model(words, NUMBERS, {"twice": "double"})))
    assert "not of the declared type double" in rejected(result)["reason"][0]


def test_jdbc_reads_a_table_and_tells_nobody_the_password(
    spark: SparkSession, model: Make, plan: Make, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    url = f"jdbc:derby:{tmp_path}/db;create=true"
    login = {"user": "ann", "password": "dont-tell-17"}
    spark.createDataFrame([(1, 1.5), (2, 2.5)], "id int, x double").write.jdbc(url, "cells", properties=login)
    use = model(DOUBLE, NUMBERS, {"twice": "double"})
    made = plan(tmp_path / "none", use, format="jdbc", options={"url": url, "dbtable": "cells", **login})
    result = run(spark, made)
    assert sorted(published(result)["twice"]) == [3.0, 5.0]
    wrong = replace(made, nodes=[{**made.nodes[0], "options": {**made.nodes[0]["options"], "dbtable": "none"}},
                                 *made.nodes[1:]])  # fmt: skip
    with pytest.raises(JobError) as failed:
        run(spark, wrong)
    said = capfd.readouterr()
    for text in (str(failed.value), json.dumps(result), said.out, said.err):
        assert "dont-tell-17" not in text


def test_sql_takes_parameters_as_values(spark: SparkSession, model: Make, plan: Make, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "in.csv", "x,who", "1,a", "2,b' OR '1'='1", "3,c")
    use = model(DOUBLE, NUMBERS, {"twice": "double"})
    nodes = plan(source, use).nodes
    chosen = {"id": "chosen", "type": "sql", "inputs": ["rows"], "sql": "SELECT * FROM rows WHERE who = :who",
              "markers": ["who"]}  # fmt: skip
    made = plan(source, use, nodes=[nodes[0], chosen, {**nodes[1], "input": "chosen"}, nodes[2]],
                parameters={"who": ["string", "b' OR '1'='1"]})  # fmt: skip
    result = run(spark, made)
    assert list(published(result)["twice"]) == [4.0]
    assert result["counts"] == {"in": 3, "scored": 1, "rejected": 0, "written": 1}, "read, and chosen to be scored"
    read = {**nodes[0], "schema": "x DOUBLE, who STRING"}
    declared = replace(made, nodes=[read, *made.nodes[1:]], execution="run-2")
    assert run(spark, declared)["counts"] == result["counts"]


def test_a_full_disk_is_told_and_may_be_tried_again() -> None:
    said = explain(RuntimeError("java.io.IOException: No space left on device\n at x"))
    assert not isinstance(said, WrongInput)
    assert "disk is full" in str(said)
