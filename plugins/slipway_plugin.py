"""The Airflow plugin: names what Slipway adds to Airflow's UI, nothing else."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from slipway.lazy_app import LazyApp
from slipway.links import EndpointLink, ModelVersionLink, SparkApplicationLink


class SlipwayPlugin(AirflowPlugin):
    """Slipway's buttons on task instances, and its REST API beside Airflow's own."""

    name = "slipway"
    fastapi_apps = [  # noqa: RUF012
        {"app": LazyApp("slipway.web.api:make_app"), "url_prefix": "/api/v1", "name": "Slipway score workflows"}
    ]
    operator_extra_links = [EndpointLink(), ModelVersionLink(), SparkApplicationLink()]  # noqa: RUF012  # Airflow reads the class attribute
