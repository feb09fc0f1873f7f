"""The Airflow plugin: names what Slipway adds to Airflow's UI, nothing else."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from slipway.links import EndpointLink, ModelVersionLink


class SlipwayPlugin(AirflowPlugin):
    """Slipway's buttons on task instances."""

    name = "slipway"
    operator_extra_links = [EndpointLink(), ModelVersionLink()]  # noqa: RUF012  # Airflow reads the class attribute
