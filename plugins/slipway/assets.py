"""The assets that connect the actions: schedule a DAG on one of them to go on where another DAG ended.

An `x-` scheme, because for any other Airflow imports the URI checks of every provider, boto3 among them.
"""

from __future__ import annotations

from airflow.sdk import Asset

__all__ = ["BUNDLE", "ENDPOINT", "MODEL_VERSION", "SCORES"]

BUNDLE = Asset(name="slipway_bundle", uri="x-slipway://bundles")
MODEL_VERSION = Asset(name="slipway_model_version", uri="x-slipway://model-versions")
ENDPOINT = Asset(name="slipway_endpoint", uri="x-slipway://endpoints")
SCORES = Asset(name="slipway_scores", uri="x-slipway://scores")
