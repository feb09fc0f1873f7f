"""What the DAGs share: retries, tags, and the params that mean the same in each."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import Param

__all__ = [
    "CLOUD_DAG_DEFAULTS",
    "DAG_DEFAULTS",
    "alias_param",
    "connection_param",
    "endpoint_param",
    "engine_param",
    "image_params",
    "model_param",
    "text_param",
    "version_param",
]

# Operators tell a user's mistake (fails at once) from a passing fault; only the latter comes to a retry.
DAG_DEFAULTS: dict[str, Any] = {
    "schedule": None,
    "catchup": False,
    "tags": ["slipway"],
    "default_args": {
        "owner": "slipway",
        "retries": 3,
        "retry_delay": timedelta(seconds=5),
        "retry_exponential_backoff": True,
        "max_retry_delay": timedelta(minutes=2),
    },
}

# An action in a cloud is mostly a wait, and a wait takes no slot: at the default of 16 runs the next ones would be
# queued behind runs that only wait.
CLOUD_DAG_DEFAULTS: dict[str, Any] = {**DAG_DEFAULTS, "max_active_runs": 1000}


def text_param(title: str, description: str, *, required: bool = False) -> Param:
    """Return a text field with Markdown for its help; an optional one may be left empty."""
    if required:
        return Param(title=title, description_md=description, type="string", minLength=1)
    return Param(None, title=title, description_md=description, type=["null", "string"])


def model_param() -> Param:
    """The registered model that an action is about."""
    return text_param("Model", "Name of the registered model, such as `breast-cancer`.", required=True)


def version_param() -> Param:
    """The version to deploy."""
    return text_param("Version", "Its version, such as `3`. Empty, with no alias: the newest.")


def alias_param() -> Param:
    """The alias of the version to deploy."""
    return text_param("Alias", "An alias of the version, such as `champion`, in place of the version.")


def connection_param(default: str, kind: str) -> Param:
    """The connection of a target.

    :param default: its id.
    :param kind: the connection type, as Airflow's form calls it.
    """
    return Param(
        default, title="Connection", description_md=f"Airflow connection ({kind}).", type="string", minLength=1
    )


def endpoint_param() -> Param:
    """The endpoint's name."""
    return text_param("Endpoint", "Name of the endpoint. Empty: the model's name.")


def image_params() -> dict[str, Param]:
    """How an image is built, where it must be."""
    return {
        "base_image": text_param(
            "Base image", "Image to build on, best by digest. Empty: the setting `[slipway] base_image`."
        ),
        "platform": text_param("Platform", "`linux/amd64` or `linux/arm64`. Empty: this machine's."),
        "docker_conn_id": engine_param(),
    }


def engine_param() -> Param:
    """The Docker Engine that builds or runs."""
    return Param(
        "docker_default",
        title="Docker Engine",
        description_md="Docker connection of the engine; `docker_default` is this machine's where there is none.",
        type="string",
        minLength=1,
    )
