"""An unmodified MLClient at the sandbox: an endpoint's whole life, each answer against the generated models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from azure.ai.ml import MLClient
from azure.ai.ml._restclient.arm_ml_service import models as rest
from azure.ai.ml.entities import Environment, ManagedOnlineDeployment, ManagedOnlineEndpoint, Model
from azure.ai.ml.exceptions import MlException
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError
from azure.identity import ClientSecretCredential

from slipway_sandbox.azure.server import Sandbox
from slipway_sandbox.azure.settings import CLOUD
from tests.model_host.hosts import ModelMaker

pytestmark = pytest.mark.requires("npm")

ROUTES = {"liveness_route": "/", "readiness_route": "/ready", "scoring_route": "/score"}
BODY = {"dataframe_split": {"columns": ["a"], "data": [[1], [2]]}}


@pytest.fixture
def answers() -> list[tuple[str, str, int, Any, dict[str, str]]]:
    """All that the client was answered: method, path, status, body, headers."""
    return []


@pytest.fixture
def client(sandbox: Sandbox, answers: list[Any]) -> MLClient:
    known = sandbox.settings
    credential = ClientSecretCredential(
        known.tenant, known.client_id, known.client_secret,
        authority=known.url.removeprefix("https://"), disable_instance_discovery=True,
    )  # fmt: skip

    def note(answer: Any) -> None:
        response, request = answer.http_response, answer.http_request
        response.read()
        is_json = "json" in response.headers.get("content-type", "")
        body = json.loads(response.text()) if is_json and response.text() else None
        lower = {name.lower(): value for name, value in response.headers.items()}
        whole = httpx.URL(request.url).path
        path = whole.partition(f"/workspaces/{known.workspace}")[2] or whole
        answers.append((request.method, path, response.status_code, body, lower))

    return MLClient(
        credential, known.subscription, known.resource_group, known.workspace, cloud=CLOUD,
        enable_telemetry=False, show_progress=False, raw_response_hook=note,
    )  # fmt: skip


def make(client: MLClient, directory: Path, deployment: str = "blue", **options: Any) -> ManagedOnlineDeployment:
    model = client.models.create_or_update(Model(name="echo", version="1", path=str(directory), type="custom_model"))
    environment = client.environments.create_or_update(
        Environment(
            name="scoring", version="1", image="registry.example/scoring@sha256:0",
            inference_config={route: {"port": 5001, "path": path} for route, path in ROUTES.items()},
        )
    )  # fmt: skip
    return ManagedOnlineDeployment(
        name=deployment, endpoint_name="churn", model=model.id, environment=environment.id,
        instance_type="Standard_DS3_v2", instance_count=1, **options,
    )  # fmt: skip


def test_the_whole_life_of_an_endpoint(
    client: MLClient, models: ModelMaker, tmp_path: Path, answers: list[Any]
) -> None:
    endpoint = client.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name="churn", auth_mode="key", tags={"team": "risk"})
    ).result()
    assert endpoint.provisioning_state == "Succeeded"
    assert endpoint.tags == {"team": "risk"}

    deployment = client.online_deployments.begin_create_or_update(make(client, models.make("one").folder)).result()
    assert deployment.provisioning_state == "Succeeded"
    request = tmp_path / "request.json"
    request.write_text(json.dumps(BODY))
    with pytest.raises(MlException, match="No valid deployments"):  # it has no traffic yet
        client.online_endpoints.invoke("churn", request_file=str(request))
    answer = client.online_endpoints.invoke("churn", request_file=str(request), deployment_name="blue")
    assert json.loads(answer)["predictions"] == ["one", "one"]

    endpoint.traffic = {"blue": 100}
    assert client.online_endpoints.begin_create_or_update(endpoint).result().traffic == {"blue": 100}
    assert json.loads(client.online_endpoints.invoke("churn", request_file=str(request)))["predictions"]
    assert '"path":"/score"' in client.online_deployments.get_logs("blue", "churn", lines=5)
    old = client.online_endpoints.get_keys("churn").primary_key
    client.online_endpoints.begin_regenerate_keys("churn", key_type="secondary").result()
    assert client.online_endpoints.get_keys("churn").primary_key == old

    with pytest.raises(HttpResponseError, match="takes traffic"):
        client.online_deployments.begin_delete("blue", "churn").result()
    endpoint.traffic = {"blue": 0}
    client.online_endpoints.begin_create_or_update(endpoint).result()
    client.online_deployments.begin_delete("blue", "churn").result()
    assert list(client.online_deployments.list("churn")) == []
    client.online_endpoints.begin_delete("churn").result()
    with pytest.raises(ResourceNotFoundError):
        client.online_endpoints.get("churn")
    check_answers(answers)


KINDS = {
    "onlineEndpoints": rest.OnlineEndpoint,
    "deployments": rest.OnlineDeployment,
    "listKeys": rest.EndpointAuthKeys,
    "getLogs": rest.DeploymentLogs,
    "listSecrets": rest.DatastoreSecrets,
    "datastores": rest.Datastore,
    "models": rest.ModelVersion,
    "environments": rest.EnvironmentVersion,
    "": rest.Workspace,
}


def unknown_fields(read: Any, path: str = "") -> Iterator[str]:
    """What is in an answer and not in the API's model of it, at any depth."""
    fields = {field._rest_name: name for name, field in read._attr_to_rest_field.items()}
    for key in read:
        if key not in fields:
            yield f"{path}.{key}"
        elif hasattr(inner := getattr(read, fields[key]), "_attr_to_rest_field"):
            yield from unknown_fields(inner, f"{path}.{key}")


def check_answers(answers: list[Any]) -> None:
    """Read each answer with azure-ai-ml's generated model of it; nothing may get lost on the way there and back."""
    checked = set()
    for method, path, status, body, headers in answers:
        if status >= 400 or body is None or "/mfeOperations" in path or path.startswith("/inference/"):
            continue
        parts = path.strip("/").split("/")
        kind = next((part for part in reversed(parts) if part in KINDS), "")
        for item in body.get("value", [body]):
            read = KINDS[kind]._deserialize(item, [])
            assert json.loads(json.dumps(read.as_dict())) == {k: v for k, v in item.items() if v is not None}, path
            assert not list(unknown_fields(read)), path
            checked.add(kind)
        if method == "PUT" and kind in {"onlineEndpoints", "deployments"}:
            assert "/mfeOperationsStatus/" in headers["azure-asyncoperation"]
            assert body["properties"]["provisioningState"] in {"Creating", "Updating"}
    assert checked >= {"onlineEndpoints", "deployments", "listKeys", "getLogs", "models", "environments"}
    deletes = [(status, headers) for method, _, status, _, headers in answers if method == "DELETE" and status < 400]
    assert deletes
    for status, headers in deletes:
        assert status == 202
        assert {"azure-asyncoperation", "location"} <= headers.keys()


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("quota", "OutOfQuota"),
        ("image_pull", "Unable to download user container image"),
        ("liveness", "Liveness probe failed"),
    ],
)
def test_a_deployment_that_fails_says_why_in_its_operation(
    client: MLClient, sandbox: Sandbox, models: ModelMaker, kind: str, code: str
) -> None:
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="churn", auth_mode="key")).result()
    sandbox.faults.set({"kind": kind})
    with pytest.raises(HttpResponseError, match=code):
        client.online_deployments.begin_create_or_update(make(client, models.make("one").folder)).result()
    assert client.online_deployments.get("blue", "churn").provisioning_state == "Failed"


def test_a_delete_overrides_a_create_that_is_stuck(client: MLClient, sandbox: Sandbox, models: ModelMaker) -> None:
    client.online_endpoints.begin_create_or_update(ManagedOnlineEndpoint(name="churn", auth_mode="key")).result()
    sandbox.faults.set({"kind": "stuck"})
    stuck = client.online_deployments.begin_create_or_update(make(client, models.make("one").folder))
    client.online_deployments.begin_delete("blue", "churn").result()
    with pytest.raises(HttpResponseError, match="higher priority"):
        stuck.result()
    assert list(client.online_deployments.list("churn")) == []


@pytest.mark.parametrize("traffic", [{"blue": 50}, {"nobody": 100}])
def test_traffic_that_azure_would_refuse_is_refused(client: MLClient, traffic: dict[str, int]) -> None:
    endpoint = client.online_endpoints.begin_create_or_update(
        ManagedOnlineEndpoint(name="churn", auth_mode="key")
    ).result()
    endpoint.traffic = traffic
    with pytest.raises(HttpResponseError) as refused:
        client.online_endpoints.begin_create_or_update(endpoint).result()
    assert refused.value.status_code == 400


def test_an_asset_version_cannot_be_changed(client: MLClient, models: ModelMaker) -> None:
    make(client, models.make("one").folder)
    make(client, models.make("one").folder)  # the same again is the same
    with pytest.raises(HttpResponseError) as refused:
        make(client, models.make("two").folder)
    assert refused.value.status_code == 409
