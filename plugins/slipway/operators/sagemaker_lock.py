"""One deploy or undeploy of an endpoint at a time: a lock in S3, taken by the run and given back by its last task."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from airflow.sdk.definitions.context import Context
from airflow.sdk.exceptions import TaskDeferred

from slipway import settings
from slipway.errors import Unavailable
from slipway.hooks.sagemaker_data import Held, SageMakerDataHook
from slipway.operators.base import PlanOperator, one_sentence, run_of
from slipway.triggers.sagemaker import SageMakerLockTrigger

__all__ = ["SageMakerLockOperator", "SageMakerUnlockOperator", "data_hook"]

# How often a waiting run asks whether the run that holds the lock is still there.
_LOOK_SECONDS = 60


class SageMakerLockOperator(PlanOperator):
    """Take the endpoint's lock; wait in the triggerer while another run holds it.

    Returns `clean`: whether nobody held it, so that nothing is left of a run that did not end as it should.

    :param plan: what the resolving operator returned.
    """

    def run(self, context: Context) -> dict[str, Any]:
        """Take the lock. A dry run needs none.

        :raises NotFound: if the bucket is not there.
        :raises Unavailable: if the other run does not end in time.
        """
        return self._take(context, time.time() + settings.ready_timeout_seconds())

    def _take(self, context: Context, deadline: float) -> dict[str, Any]:
        if self.plan["dry_run"]:
            return {"clean": True}
        data, owner = data_hook(self.plan), run_of(context)
        held = data.acquire(owner)
        if held is None:
            return {"clean": True}
        if held.owner == owner:
            return {"clean": False}
        if _is_over(context, held):
            self.log.info("Run %s is over and left the lock: it is taken over.", held.owner)
            if data.acquire(owner, instead_of=held) is None:
                return {"clean": False}
        if time.time() > deadline:
            raise Unavailable(
                f"Endpoint '{self.plan['endpoint']}' is still being changed by run {held.owner}: wait until it ends, "
                f"or remove s3://{data.lock_bucket}/{data.lock_key} if there is no such run."
            )
        self.log.info("Run %s changes the endpoint: waiting for it.", held.owner)
        raise TaskDeferred(
            trigger=SageMakerLockTrigger(
                data.conn_id,
                data.region,
                time.time() + _LOOK_SECONDS,
                bucket=data.lock_bucket,
                key=data.lock_key,
                etag=held.etag,
            ),
            method_name="execute_complete",
            kwargs={"deadline": deadline},
            timeout=timedelta(seconds=2 * _LOOK_SECONDS + settings.ready_timeout_seconds()),
        )

    def execute_complete(self, context: Context, event: dict[str, Any], deadline: float) -> dict[str, Any]:
        """Try again after the wait; `event` only says that something may have changed."""
        with one_sentence(context):
            self.log.debug("%s", event)
            return self._take(context, deadline)


class SageMakerUnlockOperator(PlanOperator):
    """Give the lock back, if this run has it, and leaves the endpoint in order.

    Where it could not be restored the lock stays: the next run takes it over, because this one is over, and knows by it
    that it has to look for what was left.

    :param plan: what the resolving operator returned.
    :param restored: what `SageMakerRestoreOperator` returned, of a run that has one; None if it failed.
    """

    template_fields: Sequence[str] = ("plan", "restored")

    def __init__(self, *, restored: Any = "There is nothing to undo.", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.restored = restored

    def run(self, context: Context) -> None:
        """Remove the lock."""
        if self.plan["dry_run"]:
            return
        if self.restored is None:
            self.log.warning("The endpoint could not be restored: the lock stays until another run takes it over.")
            return
        data_hook(self.plan).release(run_of(context))


def data_hook(plan: dict[str, Any]) -> SageMakerDataHook:
    """Return the hook of a plan's folder in S3."""
    place = plan["place"]
    return SageMakerDataHook(
        plan["conn_id"], place["region"], place["bucket"], plan["endpoint"], lock_bucket=place["lock_bucket"]
    )


def _is_over(context: Context, held: Held) -> bool:
    """Whether the run that holds a lock has ended, or does not exist any more."""
    dag_id, slash, run_id = held.owner.partition("/")
    if not slash:
        return False  # not a lock of ours: somebody has to look
    ti: Any = context["ti"]
    return int(ti.get_dr_count(dag_id=dag_id, run_ids=[run_id], states=["queued", "running"])) == 0
