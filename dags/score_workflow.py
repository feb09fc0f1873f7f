"""Score data at rest: run a declared workflow (read, transform, score, write) with Spark."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.workflows import (
    NotifyOperator,
    PublishScoresOperator,
    ResolveWorkflowOperator,
    ScoreOperator,
)
from slipway.workflows.request import FIELDS

with DAG(
    dag_id="score_workflow",
    dag_display_name="Score workflow",
    doc_md=__doc__,
    params={
        "workflowId": Param(1, title="Workflow", description_md=FIELDS["workflowId"], type="integer", minimum=1),
        "programParameters": lifecycle.text_param("Parameters", FIELDS["programParameters"]),
        "sparkConfig": lifecycle.text_param("Spark settings", FIELDS["sparkConfig"]),
        "libJars": lifecycle.text_param("Jars", FIELDS["libJars"]),
        "emailOnSuccess": lifecycle.text_param("Mail on success", FIELDS["emailOnSuccess"]),
        "emailOnFailure": lifecycle.text_param("Mail on failure", FIELDS["emailOnFailure"]),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    resolve = ResolveWorkflowOperator(
        task_id="resolve",
        workflow_id=dag.param("workflowId"),
        program_parameters=dag.param("programParameters"),
        spark_config=dag.param("sparkConfig"),
        lib_jars=dag.param("libJars"),
        mail_on_success=dag.param("emailOnSuccess"),
        mail_on_failure=dag.param("emailOnFailure"),
    )
    score = ScoreOperator(task_id="score", resolved=resolve.output)
    publish = PublishScoresOperator(task_id="publish", resolved=resolve.output, scored=score.output)
    notify = NotifyOperator(task_id="notify").as_teardown(on_failure_fail_dagrun=True)

    resolve >> score >> publish >> notify
