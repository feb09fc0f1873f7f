"""Take a zipped bundle in: check it, lock its environment, probe it in isolation, store it under its digest."""

from __future__ import annotations

from airflow.sdk import DAG

from slipway import lifecycle
from slipway.operators.bundles import (
    CheckBundleOperator,
    DiscardBundleOperator,
    LockBundleOperator,
    ProbeBundleOperator,
    StoreBundleOperator,
)
from slipway.operators.ending import OutcomeOperator

with DAG(
    dag_id="import_bundle",
    dag_display_name="Import bundle",
    doc_md=__doc__,
    params={
        "bundle_uri": lifecycle.text_param(
            "Bundle URI",
            "Where the zip is: a path, or a URI such as `file:///models/churn.zip` or `s3://aws_default@bucket/churn.zip`.",
            required=True,
        ),
        "name": lifecycle.text_param("Name", "Name of the model. Empty: from `bundle.yaml`, or else the file's name."),
        "description": lifecycle.text_param("Description", "What the model does. Empty: from `bundle.yaml`."),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    check = CheckBundleOperator(
        task_id="check",
        bundle_uri=dag.param("bundle_uri"),
        name=dag.param("name"),
        description=dag.param("description"),
    )
    lock = LockBundleOperator(task_id="lock", checked=check.output)
    probe = ProbeBundleOperator(task_id="probe", checked=check.output, locked=lock.output)
    store = StoreBundleOperator(task_id="store", checked=check.output, locked=lock.output, probed=probe.output)
    discard = DiscardBundleOperator(task_id="discard", checked=check.output, stored=store.output)
    outcome = OutcomeOperator(task_id="outcome")

    check >> lock >> probe >> store >> discard.as_teardown(setups=check)
    discard >> outcome.as_teardown(setups=check, on_failure_fail_dagrun=True)
