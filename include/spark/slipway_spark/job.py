"""Run a plan: write every output to its staging place, then the rejects, then publish all of it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyspark.sql import Observation
from pyspark.sql import functions as F  # noqa: N812  # as everybody writes it

from slipway_spark.commit import Output
from slipway_spark.direct import Direct
from slipway_spark.errors import JobError, WrongInput
from slipway_spark.frames import Frames, failed_in, inputs_of
from slipway_spark.progress import say

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

    from slipway_spark.plan import Plan

__all__ = ["run"]

_COUNTED_BY_FOOTER = {"parquet", "orc"}
_REASONS_SHOWN = 10


def run(spark: SparkSession, plan: Plan) -> dict[str, Any]:
    """Execute `plan`; return counts and outputs.

    Raises:
        JobError: it failed, and nothing of it is published (rejects are, when it is they that were too many).
    """
    started = time.monotonic()
    writes = [node for node in plan.nodes if node["type"] == "write"]
    outputs = {n["id"]: Output(n["path"], plan.execution, plan.attempt, n["mode"]) for n in writes}
    rejects = Output(plan.rejects["path"], plan.execution, plan.attempt)
    for output in (*outputs.values(), rejects):
        output.prepare()
    try:
        frames = Frames(spark, plan)
        tables = frames.build()
        if direct := Direct.of(spark, plan):
            rows, counts = _write_direct(spark, direct, frames, outputs[writes[0]["id"]].staging)
        else:
            rows = {n["id"]: _write(spark, n, tables[n["id"]], outputs[n["id"]].staging, plan.attempt) for n in writes}
            counts = {place.node: place.counts() for place in frames.rejecting}
        read = _read(plan, frames, counts)
        rejected = _write_rejects(spark, frames, counts, rejects)
        facts = _facts(plan, read, rows, counts)
        _check_share(plan, counts, rejected, rejects, facts)
        for node, output in outputs.items():
            output.publish({**facts, "node": node, "rows": rows[node]})
        _publish_rejects(rejects, rejected, facts)
    except BaseException:
        for output in (*outputs.values(), rejects):
            output.discard()
        raise
    return {
        **facts,
        "outputs": [{"node": n["id"], "path": outputs[n["id"]].published, "format": n["format"],
                     "rows": rows[n["id"]]} for n in writes],
        "rejects": {"path": rejects.published, **rejected} if rejected["rows"] else None,
        "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip


def _write(spark: SparkSession, node: dict[str, Any], table: DataFrame, path: str, attempt: str) -> int:
    """Write one output to its staging place and return how many rows it has."""
    counted = Observation(f"write-{node['id']}-{attempt}")
    writer = table.observe(counted, F.count(F.lit(1)).alias("rows")).write.format(node["format"])
    writer = writer.options(**node["options"])
    if node["partitions"]:
        writer = writer.partitionBy(*node["partitions"])
    try:
        writer.mode("error").save(path)
        if node["format"] in _COUNTED_BY_FOOTER:
            # Stages that run again when an executor is lost are observed twice; the files are there once.
            schema = table.select(*(c for c in table.columns if c not in node["partitions"])).schema
            rows = spark.read.format(node["format"]).schema(schema).load(path).count()
        else:
            # Late counts (see `Rejecting.counts`): lines of text are counted where they were written.
            found = counted.get
            rows = int(found["rows"]) if "rows" in found else _lines(spark, node, path)
    except Exception as error:
        raise failed_in(node["id"], error) from error
    say(f"Node '{node['id']}': {rows:,} rows written.")
    return rows


def _write_direct(
    spark: SparkSession, direct: Direct, frames: Frames, path: str
) -> tuple[dict[str, int], dict[str, tuple[int, int]]]:
    """Go the short way; return the rows written and the rows that came and were rejected, by node."""
    read, score, write = (node["id"] for node in direct.plan.nodes)
    try:
        came, lost = direct.write(spark, frames.made[read], frames.taken[score], path)
    except Exception as error:
        raise failed_in(write, error) from error
    say(f"Node '{write}': {came - lost:,} rows written.")
    return {write: came - lost}, {score: (came, lost)}


def _lines(spark: SparkSession, node: dict[str, Any], path: str) -> int:
    schema = "line STRING"
    return int(spark.read.format(node["format"]).options(**node["options"]).schema(schema).load(path).count())


def _write_rejects(
    spark: SparkSession, frames: Frames, counts: dict[str, tuple[int, int]], output: Output
) -> dict[str, Any]:
    """Go through the data once more for the rejected rows, if there are any: they are few, and most runs have none."""
    found = [place for place in frames.rejecting if counts[place.node][1]]
    if not found:
        return {"rows": 0, "reasons": []}
    table = found[0].rejects
    for place in found[1:]:
        table = table.unionByName(place.rejects)
    say(f"Writing the rejected rows of {', '.join(place.node for place in found)}.")
    try:
        table.write.mode("error").parquet(output.staging)
    except Exception as error:
        raise failed_in(found[0].node, error) from error
    written = spark.read.parquet(output.staging)
    groups = written.groupBy("node", "reason").count().orderBy(F.desc("count"), "node", "reason").collect()
    total = sum(group["count"] for group in groups)
    expected = sum(counts[place.node][1] for place in found)
    if total != expected:
        raise JobError(
            f"{expected} rows were rejected at first and {total} when they were written: a node gives other rows each "
            "time it runs (rand, current_timestamp, a model that changes), or an executor was lost; nothing is "
            "published."
        )
    shown = [{"node": g["node"], "reason": g["reason"], "rows": g["count"]} for g in groups[:_REASONS_SHOWN]]
    return {"rows": total, "reasons": shown}


def _read(plan: Plan, frames: Frames, counts: dict[str, tuple[int, int]]) -> int:
    """How many rows the read nodes gave, each counted once, whatever takes them.

    Where nothing on the way has counted them, Spark does: for parquet and orc that takes the files' ends alone.
    """
    total = 0
    for node in plan.nodes:
        if node["type"] == "read":
            takers = [n["id"] for n in plan.nodes if n["type"] == "score" and n["input"] == node["id"]]
            known = next((counts[name] for name in (node["id"], *takers) if name in counts), None)
            total += known[0] if known else frames.made[node["id"]].count()
    return total


def _ends(plan: Plan) -> set[str]:
    """The score nodes that no other one comes after: the last of each chain."""
    ends = {node["id"] for node in plan.nodes if node["type"] == "score"}
    above: dict[str, set[str]] = {}
    for node in plan.nodes:
        inputs = inputs_of(node)
        above[node["id"]] = set(inputs).union(*(above[name] for name in inputs))
        if node["type"] == "score":
            ends -= above[node["id"]]
    return ends


def _facts(plan: Plan, read: int, rows: dict[str, int], counts: dict[str, tuple[int, int]]) -> dict[str, Any]:
    return {
        "execution": plan.execution,
        "workflow": plan.workflow,
        "models": {node: use.label for node, use in plan.models.items()},
        "counts": {
            "in": read,
            "scored": sum(came - lost for came, lost in (counts[name] for name in _ends(plan))),
            "rejected": sum(lost for _, lost in counts.values()),
            "written": sum(rows.values()),
        },
    }


def _check_share(
    plan: Plan, counts: dict[str, tuple[int, int]], rejected: dict[str, Any], rejects: Output, facts: dict[str, Any]
) -> None:
    limit = plan.rejects["max_share"]
    for node, (came, lost) in counts.items():
        if came and lost / came > limit:
            _publish_rejects(rejects, rejected, facts)
            reason = next((r["reason"] for r in rejected["reasons"] if r["node"] == node), "")
            raise WrongInput(
                f"Node '{node}' rejects {lost} of {came} rows, more than the share of {limit:g} that the workflow "
                f"allows: see {rejects.published}, where the most frequent reason is: {reason}"
            )


def _publish_rejects(output: Output, rejected: dict[str, Any], facts: dict[str, Any]) -> None:
    if rejected["rows"]:
        output.publish({**facts, "rows": rejected["rows"]})
    else:
        output.withdraw()
