"""The DAG of a workflow with a schedule: as `score_workflow`, with the data interval in place of a caller's params."""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from airflow.sdk import DAG, AssetOrTimeSchedule, CronDataIntervalTimetable

from slipway import lifecycle
from slipway.assets import MODEL_VERSION
from slipway.operators.workflows import (
    NotifyOperator,
    PublishScoresOperator,
    ResolveWorkflowOperator,
    ScoreOperator,
)
from slipway.workflows.definition import Definition

__all__ = ["DAG_PREFIX", "scheduled_dag"]

DAG_PREFIX = "scheduled_scoring__"


def scheduled_dag(definition: Definition, doc: str | None) -> DAG:
    """Return the DAG that runs `definition` on its schedule.

    Backfills are Airflow's own: each day of one is a run with its own data interval, so with its own output.
    """
    schedule = definition.schedule
    assert schedule is not None  # noqa: S101  # the caller asks only for those that have one
    when: Any = CronDataIntervalTimetable(schedule.cron, timezone="UTC")
    if schedule.on_champion:
        when = AssetOrTimeSchedule(timetable=when, assets=[MODEL_VERSION])
    with DAG(
        dag_id=f"{DAG_PREFIX}{definition.name.replace('-', '_')}",
        dag_display_name=f"Scheduled scoring: {definition.name}",
        doc_md=f"{doc}\n\n{definition.description}",
        is_paused_upon_creation=schedule.paused,
        start_date=datetime.combine(schedule.start, time(), UTC),
        **{**lifecycle.DAG_DEFAULTS, "schedule": when, "catchup": schedule.catchup},
    ) as dag:
        resolve = ResolveWorkflowOperator(
            task_id="resolve",
            workflow_id=definition.id,
            mail_on_success=schedule.email_on_success,
            mail_on_failure=schedule.email_on_failure,
            scheduled=True,
        )
        score = ScoreOperator(task_id="score", resolved=resolve.output)
        publish = PublishScoresOperator(task_id="publish", resolved=resolve.output, scored=score.output)
        notify = NotifyOperator(task_id="notify").as_teardown(on_failure_fail_dagrun=True)
        resolve >> score >> publish >> notify
    return dag
