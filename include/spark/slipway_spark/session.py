"""The Spark session of a plan: under spark-submit what it set up, else a session of a Spark Connect server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipway_spark.errors import JobError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from slipway_spark.plan import Plan

__all__ = ["open_session"]


def open_session(plan: Plan) -> SparkSession:
    """Return the session.

    Raises:
        JobError: no Spark Connect server answers.
    """
    from pyspark.sql import SparkSession

    if plan.remote is None:
        return SparkSession.builder.getOrCreate()
    try:
        spark = SparkSession.builder.remote(plan.remote).create()
        for name, value in plan.conf.items():
            spark.conf.set(name, value)
        if plan.archives:
            spark.addArtifacts(*plan.archives, archive=True)
        if plan.python_files:
            spark.addArtifacts(*plan.python_files, pyfile=True)
    except Exception as error:
        line = (str(error).splitlines() or ["no reason given"])[0][:300]
        raise JobError(f"The Spark Connect server gives no session ({type(error).__name__}: {line}).") from error
    return spark
