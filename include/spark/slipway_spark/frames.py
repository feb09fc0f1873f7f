"""From nodes to Spark DataFrames: read, sql, score. Nothing is computed here, Spark does that when outputs are written.

Rows that cannot be read or scored are kept beside each frame as its rejects, with a reason.
"""

from __future__ import annotations

import warnings
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, cast

from pyspark.sql import Observation
from pyspark.sql import functions as F  # noqa: N812  # as everybody writes it
from pyspark.sql.pandas.functions import ArrowUDFType, arrow_udf
from pyspark.sql.types import StringType, StructField, StructType, TimestampType

from slipway_spark.errors import JobError, WrongInput, explain
from slipway_spark.relay import scoring_function
from slipway_spark.wire import REASON

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from slipway_spark.plan import ModelUse, Plan

__all__ = ["Frames", "Rejecting", "failed_in", "inputs_of"]

_CORRUPT = "_slipway_corrupt"
_REASON = "_slipway_reason"
_RESULT = "_slipway_result"
_SQL_TYPES = {"boolean": "boolean", "integer": "int", "long": "bigint", "float": "float", "double": "double",
              "string": "string", "binary": "binary", "datetime": "timestamp"}  # fmt: skip
_NUMERIC = {"byte", "short", "integer", "long", "float", "double", "boolean"}
_TEXT_FORMATS = {"csv", "json"}


@dataclass(frozen=True)
class Rejecting:
    """A place where rows may be rejected: how many came in and were, and how to get at them."""

    node: str
    counted: Observation
    counts_again: DataFrame
    rejects: DataFrame

    def counts(self) -> tuple[int, int]:
        """Rows that came in and rows that were rejected, once an output that depends on them is written.

        A Spark Connect server answers without the counts when they come to it late, and Spark takes none where it finds
        out that there is nothing to do; then the rows are counted once more.
        """
        found = self.counted.get
        if "rejected" not in found:
            found = self.counts_again.collect()[0].asDict()
        return int(found["rows"]), int(found["rejected"])


@dataclass
class Frames:
    """The DataFrames of a plan's nodes.

    Args:
        spark: the session.
        plan: what to make.

    `made` holds the frame of each node, `taken` the columns that each model takes, and `rejecting` the places where
    rows may be rejected.
    """

    spark: SparkSession
    plan: Plan
    rejecting: list[Rejecting] = field(default_factory=list)
    made: dict[str, DataFrame] = field(default_factory=dict)
    taken: dict[str, list[str]] = field(default_factory=dict)

    def build(self) -> dict[str, DataFrame]:
        """Make the frames of all nodes and return those that `write` nodes are to write, by the node's id.

        Raises:
            JobError: Spark refuses a node; the sentence names it.
        """
        outputs = {}
        takers = Counter(name for node in self.plan.nodes for name in inputs_of(node))
        for node in self.plan.nodes:
            try:
                if node["type"] == "write":
                    outputs[node["id"]] = self.made[node["input"]]
                else:
                    frame = getattr(self, f"_{node['type']}")(node)
                    # What two nodes take is scored once and kept on disk.
                    self.made[node["id"]] = self._keep(frame) if takers[node["id"]] > 1 and self.rejecting else frame
            except Exception as error:
                reason = explain(error)
                raise type(reason)(f"Node '{node['id']}': {reason}") from error
        return outputs

    def _keep(self, frame: DataFrame) -> DataFrame:
        from pyspark import StorageLevel

        return frame.persist(StorageLevel.DISK_ONLY)

    def _read(self, node: dict[str, Any]) -> DataFrame:
        reader = self.spark.read.format(node["format"]).options(**node["options"])
        if node["format"] == "jdbc":
            return reader.load()
        if not node.get("schema"):
            return reader.load(node["path"])
        schema = _schema(node["schema"], self.spark)
        if node["format"] not in _TEXT_FORMATS:
            return reader.schema(schema).load(node["path"])
        # A column more, in which Spark leaves the text of rows that do not fit the schema.
        reader = reader.option("mode", "PERMISSIVE").option("columnNameOfCorruptRecord", _CORRUPT)
        frame = reader.schema(StructType([*schema.fields, StructField(_CORRUPT, StringType())])).load(node["path"])
        reason = F.when(F.col(_CORRUPT).isNotNull(), F.lit("The row does not fit the schema of the node."))
        return self._split(
            node["id"], frame.withColumn(_REASON, reason), schema.names, F.col(_REASON), [], F.col(_CORRUPT)
        )

    def _sql(self, node: dict[str, Any]) -> DataFrame:
        for name in node["inputs"]:
            self.made[name].createOrReplaceTempView(name)
        return self.spark.sql(node["sql"], args=self._arguments(node["markers"]))

    def _arguments(self, names: list[str]) -> dict[str, Any]:
        return {name: _value(*self.plan.parameters[name]) for name in names}

    def _score(self, node: dict[str, Any]) -> DataFrame:
        model = self.plan.models[node["id"]]
        frame = self.made[node["input"]]
        names = self.taken[node["id"]] = _check_columns(frame, model)
        struct = ", ".join(f"`{name}` {_SQL_TYPES.get(kind, 'string')}" for name, kind in model.outputs)
        with warnings.catch_warnings():
            # PySpark wants type hints that name pyarrow, which the Airflow side of this package has no need to import.
            warnings.simplefilter("ignore", UserWarning)
            udf = arrow_udf(
                scoring_function(model.place, names), f"{REASON} string, {struct}", ArrowUDFType.SCALAR_ITER
            )
        # Said to be nondeterministic, so that Spark neither calls it twice for a row nor moves it.
        result = udf.asNondeterministic()(*(F.col(f"`{name}`") for name in names))
        kept = node["keep"] if node["keep"] is not None else frame.columns
        outputs = [
            F.col(f"{_RESULT}.`{name}`").alias(alias)
            for (name, _), alias in zip(model.outputs, node["names"], strict=True)
        ]
        missing = [name for name in kept if name not in frame.columns]
        if missing:
            raise WrongInput(
                f"'{missing[0]}' is to be kept, and the input has {', '.join(frame.columns)}: correct keep."
            )
        clash = set(kept) & set(node["names"])
        if clash:
            raise WrongInput(f"Output '{min(clash)}' has the name of a kept column: give the score node other outputs.")
        return self._split(
            node["id"], frame.withColumn(_RESULT, result), kept, F.col(f"{_RESULT}.{REASON}"), outputs, None
        )

    def _split(  # noqa: PLR0917
        self, node: str, frame: DataFrame, kept: list[str], reason: Column, more: list[Column], raw: Column | None
    ) -> DataFrame:
        """Return the good rows, and remember how to get the others."""
        counted = Observation(f"{node}-{self.plan.attempt}")
        hidden = {_REASON, _RESULT, _CORRUPT}
        columns = [F.col(f"`{name}`") for name in frame.columns if name not in hidden]
        metrics = [F.count(F.lit(1)).alias("rows"), F.count(reason).alias("rejected")]
        whole = F.to_json(F.struct(*columns))
        if raw is not None:
            # Spark parses only the columns that are used, and so would find only their mistakes: use all of them.
            names = ", ".join(f"`{name}`" for name in frame.columns if name not in hidden)
            metrics.append(F.expr(f"count({names})").alias("whole"))
            whole = F.coalesce(raw, whole)
        observed = frame.observe(counted, *metrics)
        rejects = frame.filter(reason.isNotNull()).select(
            F.lit(node).alias("node"), reason.alias(REASON), whole.alias("row")
        )
        self.rejecting.append(Rejecting(node, counted, frame.agg(*metrics), rejects))
        return observed.filter(reason.isNull()).select(*(F.col(f"`{name}`") for name in kept), *more)


def inputs_of(node: dict[str, Any]) -> list[str]:
    """The nodes that a node takes."""
    return list(node.get("inputs") or ([node["input"]] if "input" in node else []))


def _schema(text: str, spark: SparkSession) -> StructType:
    """Read a schema in SQL's own words, such as `id BIGINT, day DATE`."""
    if hasattr(spark, "_jsparkSession"):
        return cast("StructType", StructType.fromDDL(text))
    return spark.createDataFrame([], text).schema  # a Connect client asks its server


def _check_columns(frame: DataFrame, model: ModelUse) -> list[str]:
    """Return the columns that the model takes, or say what it lacks before anything runs."""
    types = {f.name: f.dataType for f in frame.schema.fields}
    if model.inputs is None:
        return list(types)
    missing = [name for name, _, required in model.inputs if required and name not in types]
    if missing:
        raise WrongInput(
            f"{model.label} needs the columns {', '.join(missing)}, and the input has {', '.join(types)}: add them in "
            "a sql node, or rename the input's."
        )
    for name, kind, _ in model.inputs:
        has = types[name].typeName() if name in types else ""
        if name in types and not _fits(has, kind):
            raise WrongInput(f"{model.label} needs column '{name}' as {kind}, and it is {has}: cast it in a sql node.")
    return [name for name, _, _ in model.inputs if name in types]


def _fits(has: str, kind: str) -> bool:
    """Whether values of Spark's type `has` can be MLflow's `kind` at all; each value is checked when it is scored."""
    if kind in {"double", "float", "long", "integer"}:
        return has in _NUMERIC or has == "string" or has.startswith("decimal") or has == "void"
    if kind == "boolean":
        return has in {"boolean", "string", "void"}
    if kind == "datetime":
        return has in {"date", "timestamp", "timestamp_ntz", "string", "void"}
    if kind == "string":
        return has.startswith(("string", "char", "varchar")) or has == "void"
    return True


def _value(kind: str, text: str | None) -> Any:  # noqa: PLR0911  # one return a type
    """A parameter's value as Spark takes it for a marker in SQL."""
    if text is None:
        return None
    if kind == "integer":
        return int(text)
    if kind == "number":
        return float(text)
    if kind == "boolean":
        return text == "true"
    if kind == "date":
        return date.fromisoformat(text)
    if kind == "timestamp":
        return F.lit(datetime.fromisoformat(text)).cast(TimestampType())
    return text


def failed_in(node: str, error: Exception) -> JobError:
    """An error while a node's output was written, with the node's name."""
    reason = explain(error)
    return type(reason)(f"Node '{node}': {reason}")
