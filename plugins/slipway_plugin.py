"""The Airflow plugin: names what Slipway adds to Airflow's UI, nothing else."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from slipway.lazy_app import LazyApp
from slipway.links import EndpointLink, ModelVersionLink, SparkApplicationLink
from slipway.portless import PortlessConnectionTest


class SlipwayPlugin(AirflowPlugin):
    """The Models page, Slipway's buttons on task instances, and its REST API beside Airflow's own."""

    name = "slipway"
    # Airflow reads these from the class.
    fastapi_apps = [  # noqa: RUF012
        {"app": LazyApp("slipway.web.api:make_app"), "url_prefix": "/api/v1", "name": "Slipway score workflows"},
        {"app": LazyApp("slipway.web.page.app:make_app"), "url_prefix": "/slipway", "name": "Slipway models page"},
    ]
    fastapi_root_middlewares = [  # noqa: RUF012
        {"middleware": PortlessConnectionTest, "name": "Slipway: tests of connections without a port"},
    ]
    external_views = [  # noqa: RUF012
        {
            "name": "Models",
            "destination": "nav",
            "nav_top_level": True,
            "url_route": "models",
            # Relative, so that they follow the path that an installation may have before Airflow's own.
            "href": "slipway/",
            "icon": "slipway/static/nav/icon.svg",
        }
    ]
    operator_extra_links = [EndpointLink(), ModelVersionLink(), SparkApplicationLink()]  # noqa: RUF012
