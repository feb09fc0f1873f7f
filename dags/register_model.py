"""Register an imported bundle, or an MLflow model made elsewhere, as a version of a model in MLflow."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.register import RegisterModelOperator, ResolveBundleOperator

with DAG(
    dag_id="register_model",
    dag_display_name="Register model",
    doc_md=__doc__,
    params={
        "name": lifecycle.text_param("Name", "Name of the model to register, such as `breast-cancer`.", required=True),
        "bundle": lifecycle.text_param(
            "Bundle", "Digest of the bundle (at least its first 12 characters). Empty: the newest of that name."
        ),
        "model_uri": lifecycle.text_param(
            "MLflow model",
            "In place of a bundle: an MLflow model made elsewhere, such as `runs:/…/model` or `models:/churn/3`.",
        ),
        "alias": lifecycle.text_param("Alias", "Alias to set on the version, such as `champion`."),
        "force": Param(
            False,
            title="Re-register",
            description_md="Make a new version even if this bundle is registered already.",
            type="boolean",
        ),
    },
    # One at a time: two runs for the same bundle must not both find that it has no version yet.
    max_active_runs=1,
    **lifecycle.DAG_DEFAULTS,
) as dag:
    resolve = ResolveBundleOperator(
        task_id="resolve",
        name=dag.param("name"),
        bundle=dag.param("bundle"),
        model_uri=dag.param("model_uri"),
        alias=dag.param("alias"),
    )
    register = RegisterModelOperator(
        task_id="register", resolved=resolve.output, alias=dag.param("alias"), force=dag.param("force")
    )

    resolve >> register
