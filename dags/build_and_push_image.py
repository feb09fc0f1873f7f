"""Build the scoring image of a registered model, or the general one, and push it to a registry."""

from __future__ import annotations

from airflow.sdk import DAG, Param

from slipway import lifecycle
from slipway.operators.images import BuildImageOperator

with DAG(
    dag_id="build_and_push_image",
    dag_display_name="Build and push image",
    doc_md=__doc__,
    params={
        "registry": lifecycle.text_param(
            "Registry", "`ecr`, `acr`, or the id of a docker connection with the registry's host.", required=True
        ),
        "model": lifecycle.text_param(
            "Model", "Whose environment the image is for. Empty: the general image, for models that come at run time."
        ),
        "version": lifecycle.version_param(),
        "alias": lifecycle.alias_param(),
        "include_model": Param(
            False,
            title="Include the model",
            description_md="Put the model itself into the image, so that it serves with nothing beside it.",
            type="boolean",
        ),
        "repository": lifecycle.text_param(
            "Repository", "Without the registry's host. Empty: `slipway/scoring`, or `slipway/<model>` with the model."
        ),
        **lifecycle.image_params(),
    },
    **lifecycle.DAG_DEFAULTS,
) as dag:
    BuildImageOperator(
        task_id="image",
        model=dag.param("model"),
        version=dag.param("version"),
        alias=dag.param("alias"),
        registry=dag.param("registry"),
        repository=dag.param("repository"),
        include_model=dag.param("include_model"),
        base_image=dag.param("base_image"),
        platform=dag.param("platform"),
        docker_conn_id=dag.param("docker_conn_id"),
    )
