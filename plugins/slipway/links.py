"""The buttons that Slipway's operators put on task instances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.definitions.context import Context
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

__all__ = ["EndpointLink", "ModelVersionLink", "SparkApplicationLink"]


class _PersistedLink(BaseOperatorLink):
    """A link whose address the task leaves in XCom."""

    key: str

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:  # noqa: ARG002
        """Return the address that the task left, or nothing if it has not run."""
        return str(XCom.get_value(key=self.key, ti_key=ti_key) or "")

    @classmethod
    def persist(cls, context: Context, url: str) -> None:
        """Leave the address for `get_link`."""
        context["ti"].xcom_push(cls.key, url)


class EndpointLink(_PersistedLink):
    """From the publishing task to the endpoint's own documentation page."""

    name = "Endpoint"
    key = "endpoint_page"


class ModelVersionLink(_PersistedLink):
    """From the registering task to the version's page in MLflow."""

    name = "Model version"
    key = "model_version_page"


class SparkApplicationLink(_PersistedLink):
    """From the scoring task to the pages of the Spark application, while they are there."""

    name = "Spark application"
    key = "spark_application_page"
