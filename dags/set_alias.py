"""Point an alias of a registered model, such as champion or challenger, to one of its versions."""

from __future__ import annotations

from airflow.sdk import DAG

from slipway import lifecycle
from slipway.operators.register import SetAliasOperator

with DAG(
    dag_id="set_alias",
    dag_display_name="Set alias",
    doc_md=__doc__,
    params={
        "model": lifecycle.model_param(),
        "version": lifecycle.text_param("Version", "The version that gets the alias, such as `3`.", required=True),
        "alias": lifecycle.text_param(
            "Alias", "The alias, such as `champion` or `challenger`. Another version loses it.", required=True
        ),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    SetAliasOperator(
        task_id="set_alias", model=dag.param("model"), version=dag.param("version"), alias=dag.param("alias")
    )
