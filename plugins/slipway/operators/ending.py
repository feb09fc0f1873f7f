"""How a run ends: after all its tasks are really over, and never as a success that it was not.

Two of Airflow's rules are behind this. A run that somebody marks as failed has its tasks failed or skipped in the
database at once, while a worker learns of it at its next heartbeat. And the state of a run is that of its last task
that is no teardown: where that one was skipped because the run was cancelled, the run would be a success.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

from airflow.sdk.definitions.context import Context

from slipway import settings
from slipway.errors import UserError
from slipway.operators.base import ERROR_KEY, SlipwayOperator

__all__ = ["AfterAllOperator", "OutcomeOperator", "published_and_left"]


class AfterAllOperator(SlipwayOperator):
    """Base of the steps that undo: they begin when no task of the run is at work any more."""

    def execute(self, context: Context) -> Any:
        """Wait for tasks that were ended from outside, then run the step."""
        if ended := _ended_from_outside(context):
            seconds = settings.kill_seconds()
            self.log.info("Task '%s' was ended from outside: its worker has %d s to notice.", ended, seconds)
            time.sleep(seconds)
        return super().execute(context)


class OutcomeOperator(SlipwayOperator):
    """Fail where the run was cancelled, so that it does not count as a success.

    It is a teardown that fails the run, below the teardown that undoes: directly below a task it would hide that
    task's failure, as Airflow looks at the last tasks only.

    :param plan: what the resolving operator returned; a dry run has tasks to skip.
    """

    template_fields: Sequence[str] = ("plan",)

    def __init__(self, *, plan: Any = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.plan = plan

    def run(self, context: Context) -> None:
        """Look at what became of the run's tasks.

        :raises UserError: naming the first that did not come to run because somebody ended the run.
        """
        if self.plan and self.plan.get("dry_run"):
            return
        states = _task_states(context)
        tasks = [task for task in context["dag"].topological_sort() if not task.is_teardown]
        if skipped := next((task.task_id for task in tasks if states.get(task.task_id) == "skipped"), None):
            raise UserError(
                f"The run was ended from outside before its task '{skipped}' was done, so it is no success: run "
                f"{context['dag'].dag_id} again for what is missing."
            )


def published_and_left(context: Context) -> bool:
    """Whether the run has published and did not come to the end of its task `retire`."""
    states = _task_states(context)
    return states.get("publish") in {"success", "failed"} and states.get("retire") != "success"


def _task_states(context: Context) -> dict[str, str | None]:
    """Return the states of the run's tasks."""
    ti: Any = context["ti"]
    run_id = context["run_id"]
    return dict(ti.get_task_states(dag_id=context["dag"].dag_id, run_ids=[run_id]).get(run_id, {}))


def _ended_from_outside(context: Context) -> str | None:
    """Return a task that failed without a word, as one does that is killed or marked; a failure of ours leaves one."""
    failed = [name for name, state in _task_states(context).items() if state == "failed"]
    return next((name for name in failed if not context["ti"].xcom_pull(task_ids=name, key=ERROR_KEY)), None)
