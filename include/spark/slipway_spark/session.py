"""The Spark session of a plan: under spark-submit what it set up, else a session of a Spark Connect server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from slipway_spark.errors import JobError
from slipway_spark.warm import Lease, leased

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from slipway_spark.plan import Plan

__all__ = ["open_session"]


@contextmanager
def open_session(plan: Plan) -> Iterator[SparkSession]:
    """Give the session, and stop it afterwards; that of a Connect server is kept for the next job.

    Raises:
        JobError: no Spark Connect server answers.
    """
    from pyspark.sql import SparkSession

    if plan.remote is None:
        spark = SparkSession.builder.getOrCreate()
        try:
            yield spark
        finally:
            spark.stop()
        return
    with leased(plan.remote) as lease:
        spark = _connect(plan, lease)
        try:
            yield spark
        except KeyboardInterrupt:
            spark.interruptAll()
            raise
        finally:
            spark.stop()


def _connect(plan: Plan, lease: Lease | None) -> SparkSession:
    from pyspark.errors import PySparkException
    from pyspark.sql import SparkSession

    assert plan.remote is not None  # noqa: S101  # the caller asks
    try:
        if lease is None:
            return _prepared(SparkSession.builder.remote(plan.remote).create(), plan, [])
        for _ in range(2):
            # The session's id is a parameter of the address, after its `/;`.
            address = plan.remote if "/;" in plan.remote else f"{plan.remote.rstrip('/')}/"
            spark = SparkSession.builder.remote(f"{address};session_id={lease.session}").create()
            with suppress(PySparkException):
                # Kept on the server when this client goes.
                setattr(spark, "release_session_on_close", False)  # noqa: B010  # Connect only: not in the common type
                _ = spark.version  # asks the server, which refuses a session that it has closed
                prepared = _prepared(spark, plan, lease.settings)
                lease.remember(list(plan.conf))
                return prepared
            lease.renew()  # the server has closed it, or was started anew
        return _prepared(SparkSession.builder.remote(plan.remote).create(), plan, [])
    except Exception as error:
        line = (str(error).splitlines() or ["no reason given"])[0][:300]
        raise JobError(f"The Spark Connect server gives no session ({type(error).__name__}: {line}).") from error


def _prepared(spark: SparkSession, plan: Plan, undo: list[str]) -> SparkSession:
    # The server would remember the plan of an earlier job, and with it the list of files that were there then.
    spark.conf.set("spark.connect.session.planCache.enabled", "false")
    for name in undo:
        spark.conf.unset(name)
    for name, value in plan.conf.items():
        spark.conf.set(name, value)
    if plan.archives:
        spark.addArtifacts(*plan.archives, archive=True)
    if plan.python_files:
        spark.addArtifacts(*plan.python_files, pyfile=True)
    return spark
