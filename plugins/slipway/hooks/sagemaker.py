"""SageMaker: models, endpoint configurations and endpoints, over the amazon provider's hook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from slipway.errors import NotFound, SlipwayError, Unavailable, UserError
from slipway.hooks.sagemaker_errors import AlreadyThere, translated
from slipway.hooks.sagemaker_place import region_of
from slipway.sagemaker import names
from slipway.sagemaker.requests import tag_list
from slipway.targets import Condition, Served

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook

__all__ = ["CHANGING", "SageMakerEndpointHook", "client_options"]

# An endpoint in one of these states takes no orders.
CHANGING = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})

# In these, what served before goes on.
_SERVING = frozenset({"InService", "Updating", "SystemUpdating", "RollingBack", "UpdateRollbackFailed"})

_KINDS = {
    "model": ("list_models", "Models", "Model"),
    "config": ("list_endpoint_configs", "EndpointConfigs", "EndpointConfig"),
}
_LOG_LINES = 20


def client_options() -> Any:
    """Return botocore's settings: throttled calls are repeated with growing pauses, for about half a minute."""
    from botocore.config import Config

    return Config(retries={"mode": "standard", "total_max_attempts": 6}, connect_timeout=10, read_timeout=70)


class SageMakerEndpointHook(BaseHook):
    """The endpoints of one region, and what they are made of.

    :param conn_id: an AWS connection.
    :param region: by default Variable `mlops.region`, else the connection's own.
    """

    def __init__(self, conn_id: str = "aws_default", region: str | None = None) -> None:
        super().__init__()
        self.conn_id = conn_id
        self._region = region

    @cached_property
    def _hook(self) -> SageMakerHook:
        from airflow.providers.amazon.aws.hooks.sagemaker import SageMakerHook

        return SageMakerHook(aws_conn_id=self.conn_id, region_name=region_of(self._region), config=client_options())

    def get_conn(self) -> Any:
        """Return boto3's client of SageMaker."""
        with translated("connect", self.conn_id):
            return self._hook.get_conn()

    @cached_property
    def _runtime(self) -> Any:
        from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook

        hook: Any = AwsBaseHook(
            aws_conn_id=self.conn_id,
            region_name=region_of(self._region),
            client_type="sagemaker-runtime",
            config=client_options(),
        )
        with translated("connect", self.conn_id):
            return hook.conn

    @property
    def region(self) -> str:
        """The region."""
        return str(self.get_conn().meta.region_name)

    # Endpoints

    def describe(self, endpoint: str) -> dict[str, Any] | None:
        """Return what SageMaker says of an endpoint; None if there is none."""
        try:
            with translated(f"describe endpoint '{endpoint}'", self.conn_id):
                return dict(self._hook.describe_endpoint(endpoint))
        except NotFound:
            return None

    def create_endpoint(self, request: dict[str, Any]) -> None:
        """Let an endpoint be created; it is not waited for. One that is there already is left alone."""
        try:
            with _just_made(), translated(f"create endpoint '{request['EndpointName']}'", self.conn_id):
                self._hook.create_endpoint(request, wait_for_completion=False)
        except AlreadyThere:
            return

    def update_endpoint(self, request: dict[str, Any]) -> None:
        """Let an endpoint change to another configuration; it is not waited for."""
        with _just_made(), translated(f"update endpoint '{request['EndpointName']}'", self.conn_id):
            self._hook.update_endpoint(request, wait_for_completion=False)

    def delete_endpoint(self, endpoint: str) -> None:
        """Let an endpoint be deleted; it is not waited for, and may be gone already."""
        try:
            with translated(f"delete endpoint '{endpoint}'", self.conn_id):
                self.get_conn().delete_endpoint(EndpointName=endpoint)
        except NotFound:
            return

    def served(self, endpoint: str) -> Served | None:
        """Return what is there of an endpoint: also configurations without an endpoint, which a kill may leave."""
        found = self.describe(endpoint)
        there = {d: arn for name, arn in self.listed("config", endpoint) if (d := names.deployment_of(endpoint, name))}
        models = dict(self.listed("model", endpoint))
        if found is None and not there and not models:
            return None
        arn = found["EndpointArn"] if found else next(iter({**models, **there}.values()))
        tags = self.tags(arn)
        live = names.deployment_of(endpoint, found["EndpointConfigName"]) if found else None
        return Served(endpoint, model=tags.get(names.MODEL_TAG), live=live, deployments=frozenset(there))

    def condition(self, endpoint: str, deployment: str) -> Condition:  # noqa: ARG002
        """Return how an endpoint is, by its status.

        https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html

        :param deployment: is not looked at: one endpoint serves one deployment.
        """
        found = self.describe(endpoint) or {}
        status = str(found.get("EndpointStatus"))
        reason = " ".join(str(found.get("FailureReason") or "").split()).rstrip(".")
        return Condition(status in _SERVING, f"SageMaker says {status}{': ' if reason else ''}{reason}.")

    # Models and configurations

    def find_model(self, name: str) -> dict[str, Any] | None:
        """Return what SageMaker says of a model; None if there is none."""
        try:
            with translated(f"describe model '{name}'", self.conn_id):
                return dict(self._hook.describe_model(name))
        except NotFound:
            return None

    def find_config(self, name: str) -> dict[str, Any] | None:
        """Return what SageMaker says of an endpoint configuration; None if there is none."""
        try:
            with translated(f"describe endpoint configuration '{name}'", self.conn_id):
                return dict(self._hook.describe_endpoint_config(name))
        except NotFound:
            return None

    def create_model(self, request: dict[str, Any]) -> bool:
        """Create a model; return False if it is there already, under a name that says what is in it."""
        try:
            with translated(f"create model '{request['ModelName']}'", self.conn_id):
                self._hook.create_model(request)
        except AlreadyThere:
            return False
        return True

    def create_config(self, request: dict[str, Any]) -> bool:
        """Create an endpoint configuration; return False if it is there already."""
        try:
            name = request["EndpointConfigName"]
            with _just_made(), translated(f"create endpoint configuration '{name}'", self.conn_id):
                self._hook.create_endpoint_config(request)
        except AlreadyThere:
            return False
        return True

    def delete_resource(self, name: str) -> None:
        """Delete the configuration and the model of a name, in the order that leaves nothing pointing to nothing."""
        client = self.get_conn()
        for what, delete, key in (
            ("endpoint configuration", client.delete_endpoint_config, "EndpointConfigName"),
            ("model", client.delete_model, "ModelName"),
        ):
            try:
                with translated(f"delete {what} '{name}'", self.conn_id):
                    delete(**{key: name})
            except NotFound:
                self.log.debug("The %s '%s' is gone already.", what, name)

    def listed(self, kind: str, endpoint: str) -> Iterator[tuple[str, str]]:
        """Yield name and ARN of every model or configuration that is named after the endpoint.

        :param kind: `model` or `config`.
        """
        operation, key, prefix = _KINDS[kind]
        with translated(f"list what belongs to endpoint '{endpoint}'", self.conn_id):
            pages = self.get_conn().get_paginator(operation)
            found = [
                (one[f"{prefix}Name"], one[f"{prefix}Arn"])
                for page in pages.paginate(NameContains=names.resource_prefix(endpoint), MaxResults=100)
                for one in page[key]
            ]
        yield from (one for one in found if names.deployment_of(endpoint, one[0]))

    # Tags

    def tags(self, arn: str) -> dict[str, str]:
        """Return a resource's tags."""
        with translated(f"list the tags of '{arn}'", self.conn_id):
            pages = self.get_conn().get_paginator("list_tags").paginate(ResourceArn=arn)
            return {tag["Key"]: tag["Value"] for page in pages for tag in page["Tags"]}

    def tag(self, arn: str, tags: dict[str, str]) -> None:
        """Set tags of a resource."""
        with translated(f"tag '{arn}'", self.conn_id):
            self.get_conn().add_tags(ResourceArn=arn, Tags=tag_list(tags))

    def untag(self, arn: str, key: str) -> None:
        """Remove a tag of a resource; it is well if it is not there."""
        with translated(f"remove a tag of '{arn}'", self.conn_id):
            self.get_conn().delete_tags(ResourceArn=arn, TagKeys=[key])

    # Requests and logs

    def url(self, endpoint: str) -> str:
        """Return the endpoint's address; `/invocations` is below it."""
        return f"{self._runtime.meta.endpoint_url.rstrip('/')}/endpoints/{endpoint}"

    def own_url(self) -> str | None:
        """Return the address that the connection sends requests to, if it is not AWS's usual one."""
        url = str(self._runtime.meta.endpoint_url)
        return None if url.startswith(f"https://runtime.sagemaker.{self.region}.") else url

    def invoke(self, endpoint: str, payload: dict[str, Any], *, deployment: str | None = None) -> Any:  # noqa: ARG002
        """Send a JSON body to an endpoint and return the predictions.

        :param deployment: is not looked at: what does not serve cannot be asked on SageMaker.
        :raises UserError: if the endpoint does not exist, or the model refuses or fails on the input.
        :raises Unavailable: if it does not answer.
        """
        from botocore.exceptions import ClientError

        try:
            with translated(f"invoke endpoint '{endpoint}'", self.conn_id):
                try:
                    answer = self._runtime.invoke_endpoint(
                        EndpointName=endpoint, ContentType="application/json", Body=json.dumps(payload).encode()
                    )
                except ClientError as e:
                    if e.response["Error"]["Code"] == "ModelError":
                        raise _model_failure(endpoint, e.response) from None
                    raise
            return json.loads(answer["Body"].read())["predictions"]
        except (ValueError, KeyError, TypeError):  # no JSON, no object, or one without predictions
            raise UserError(
                f"What endpoint '{endpoint}' answers is not what Slipway's scoring server answers: give an image that "
                "build_and_push_image made, or leave image out of the conf."
            ) from None

    def last_log_lines(self, endpoint: str, config: str) -> list[str]:
        """Return the last lines of an endpoint's newest container from CloudWatch.

        None if no container has logged since the configuration was made: then the log is of what served before.
        """
        from airflow.providers.amazon.aws.hooks.logs import AwsLogsHook
        from botocore.exceptions import BotoCoreError, ClientError

        hook: Any = AwsLogsHook(aws_conn_id=self.conn_id, region_name=region_of(self._region), config=client_options())
        group = f"/aws/sagemaker/Endpoints/{endpoint}"
        try:
            pages = hook.conn.get_paginator("describe_log_streams").paginate(logGroupName=group)
            streams = [stream for page in pages for stream in page["logStreams"]]
            newest = max(streams, key=lambda stream: stream.get("creationTime", 0), default=None)
            made = self.find_config(config)
            if newest is None or (made and newest.get("creationTime", 0) < made["CreationTime"].timestamp() * 1000):
                return []
            events = hook.conn.get_log_events(
                logGroupName=group, logStreamName=newest["logStreamName"], limit=_LOG_LINES, startFromHead=False
            )
        except (ClientError, BotoCoreError, SlipwayError) as e:
            # The log only explains another failure, which is the one to tell of.
            self.log.warning("The log of endpoint '%s' cannot be read: %s", endpoint, e)
            return []
        return [event["message"].rstrip() for event in events["events"]]


@contextmanager
def _just_made() -> Iterator[None]:
    """A model or configuration that was made a moment ago may not be found yet: that passes.

    https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpoint.html

    :raises Unavailable: in place of `NotFound`.
    """
    try:
        yield
    except NotFound as e:
        raise Unavailable(f"{e}: what has just been made may not be seen yet, so it is tried again.", e.code) from None


def _model_failure(endpoint: str, response: dict[str, Any]) -> UserError | Unavailable:
    status = int(response.get("OriginalStatusCode", 0))
    message = " ".join(str(response.get("OriginalMessage") or response["Error"]["Message"]).split())[:400]
    if status in {0, 429, 503}:
        return Unavailable(f"Endpoint '{endpoint}' does not answer in time ({message}).")
    return UserError(f"The model fails on this input at endpoint '{endpoint}' (HTTP {status}: {message}).")
