"""What goes wrong between this machine and Azure: sign-in, tokens, throttling, broken answers."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from starlette.responses import Response

from slipway.errors import Unavailable, UserError
from slipway.hooks.azureml import AzureMLEndpointHook, AzureMLHook
from slipway_sandbox.azure.endpoints import Deployment
from slipway_sandbox.azure.server import Sandbox

pytestmark = pytest.mark.requires("npm")


def connect(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> AzureMLEndpointHook:
    """A hook whose connection is the sandbox's with some changes; a change to `extra` is merged."""
    connection = json.loads(sandbox.settings.connection())
    extra = {**connection["extra"], **changes.pop("extra", {})}
    monkeypatch.setenv("AIRFLOW_CONN_AZUREML_DEFAULT", json.dumps({**connection, **changes, "extra": extra}))
    return AzureMLEndpointHook()


def make_endpoint(hook: AzureMLEndpointHook, name: str, mode: str = "Key") -> None:
    hook.arm.put(f"/onlineEndpoints/{name}", {"location": "x", "properties": {"authMode": mode}})
    assert hook.arm.settle(f"/onlineEndpoints/{name}", 30)


def test_the_test_button_says_where_the_workspace_is(sandbox: Sandbox) -> None:
    assert AzureMLHook().test_connection() == (True, "Workspace 'slipway' in sandboxregion answers.")


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"password": "wrong"}, "the client secret is wrong (AADSTS7000215): correct the connection"),
        ({"login": "nobody"}, "the tenant does not know the client id (AADSTS700016)"),
        ({"extra": {"tenant_id": "elsewhere"}}, "the tenant does not exist (AADSTS90002)"),
        ({"extra": {"workspace": "other"}}, "Resource group 'slipway' has no workspace 'other'"),
        ({"extra": {"workspace": ""}}, "lacks workspace: fill it in"),
        ({"extra": {"authentication": "password"}}, "use one of service_principal, managed_identity"),
        ({"extra": {"cloud": "Elsewhere"}}, "do not describe an Azure cloud 'Elsewhere'"),
        ({"extra": {"authentication": "workload_identity"}}, "this process has no AZURE_FEDERATED_TOKEN_FILE"),
    ],
)
def test_a_wrong_connection_is_one_clear_sentence(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setenv("AZURE_TENANT_ID", "t")
    monkeypatch.setenv("AZURE_CLIENT_ID", "c")
    works, said = connect(sandbox, monkeypatch, **changes).test_connection()
    assert not works
    assert sentence in said
    assert "\n" not in said


def test_a_missing_connection_is_one_clear_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW_CONN_AZUREML_DEFAULT", raising=False)
    assert "Connection 'azureml_default' does not exist" in AzureMLHook().test_connection()[1]


def test_managed_identity_signs_in(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IDENTITY_ENDPOINT", f"{sandbox.settings.url}/_sandbox/msi/token")
    monkeypatch.setenv("IDENTITY_HEADER", sandbox.login.identity_header)
    hook = connect(sandbox, monkeypatch, login="", password="", extra={"authentication": "managed_identity"})
    assert hook.test_connection()[0]


def test_workload_identity_signs_in(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("the pod's own token")
    monkeypatch.setenv("AZURE_FEDERATED_TOKEN_FILE", str(tmp_path / "token"))
    hook = connect(sandbox, monkeypatch, password="", extra={"authentication": "workload_identity"})
    assert hook.test_connection()[0]


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "throttle", "retry_after": 1, "times": 2},
        {"kind": "error", "status": 503, "times": 2},
        {"kind": "error", "status": 500},
        {"kind": "drop", "match": "GET"},
        {"kind": "expired_token"},
    ],
    ids=lambda fault: fault["kind"],
)
def test_what_passes_is_got_over(sandbox: Sandbox, fault: dict[str, Any]) -> None:
    sandbox.faults.set({"match": "/workspaces/|sandbox|127", **fault})
    assert AzureMLHook().test_connection()[0]
    assert not any(f["times"] for f in sandbox.faults._waiting), "the fault was met"


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ({"kind": "throttle", "retry_after": 1, "match": "/workspaces/"}, "TooManyRequests"),
        ({"kind": "error", "status": 503, "match": "/workspaces/"}, "InternalServerError"),
        ({"kind": "error", "status": 503, "match": "/oauth2/|openid"}, "Azure's sign-in does not answer"),
        ({"kind": "skewed_token"}, "set the clock of this machine right"),
        ({"kind": "expired_token"}, "set the clock of this machine right"),
    ],
    ids=lambda value: value["kind"] if isinstance(value, dict) else "",
)
def test_what_does_not_pass_is_left_to_airflows_retry(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, fault: dict[str, Any], sentence: str
) -> None:
    monkeypatch.setattr("slipway.azureml.arm._RETRIES", {"retry_total": 1, "retry_backoff_factor": 0.1})
    sandbox.faults.set({"times": 1000, **fault})
    with pytest.raises(Unavailable, match=sentence):
        AzureMLHook().check()


def test_a_right_that_is_missing_is_not_retried(sandbox: Sandbox) -> None:
    sandbox.faults.set({"kind": "forbidden", "match": "PUT"})
    with pytest.raises(UserError, match=r"AuthorizationFailed.*give it the role 'AzureML Data Scientist'"):
        make_endpoint(AzureMLEndpointHook(), "churn")


@pytest.mark.parametrize("answer", ["[0, 1]", "tea", "null", '{"result": 1}'])
def test_an_image_that_does_not_answer_like_slipway_s_is_one_sentence(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    hook = AzureMLEndpointHook()
    make_endpoint(hook, "churn")

    async def score(*_: Any) -> Any:
        return Response(answer, media_type="application/json")

    replica: Any = SimpleNamespace(stop=lambda: None)
    deployments = sandbox.endpoints.known["churn"].deployments
    deployments["odd"] = Deployment({"properties": {"provisioningState": "Succeeded"}}, replica)
    monkeypatch.setattr(sandbox.scoring, "_forward", score)
    with pytest.raises(UserError, match="where Slipway's scoring images answer") as failed:
        hook.invoke("churn", {}, deployment="odd")
    assert repr(answer) in str(failed.value)


def test_a_create_whose_answer_broke_off_is_found(sandbox: Sandbox) -> None:
    hook = AzureMLEndpointHook()
    sandbox.faults.set({"kind": "drop", "match": "PUT"})
    try:
        make_endpoint(hook, "churn")
    except Unavailable:  # the try that came after met the first one's operation
        assert hook.arm.settle("/onlineEndpoints/churn", 30)
    assert list(sandbox.endpoints.known) == ["churn"]


@pytest.mark.parametrize("mode", ["Key", "AADToken"])
def test_a_wrong_key_and_a_wrong_token_are_refused(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    hook = AzureMLEndpointHook()
    make_endpoint(hook, "churn", mode)
    with pytest.raises(UserError, match="HTTP 404: No valid deployments"):  # the secret is right, and nothing serves
        hook.invoke("churn", {})
    if mode == "Key":
        monkeypatch.setattr(AzureMLEndpointHook, "secret", lambda *_: "wrong")
    else:
        sandbox.faults.set({"kind": "expired_token", "match": "ml.azure"})
    with pytest.raises(UserError, match="refuses the key or token"):
        hook.invoke("churn", {})
