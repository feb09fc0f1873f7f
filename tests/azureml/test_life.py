"""A deploy's whole life, step by step, in the sandbox: real models answer over HTTPS with the endpoint's key."""

from __future__ import annotations

import json
import time
from contextlib import suppress
from typing import Any

import httpx
import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException, AirflowSkipException, TaskDeferred
from starlette.responses import Response

from slipway.azureml import names
from slipway.hooks.azureml import AzureMLEndpointHook
from slipway.hooks.mlflow import MlflowHook
from slipway.operators.azureml import AzureMLCheckOperator, AzureMLDeployOperator
from slipway.operators.azureml_live import AzureMLRestoreOperator, AzureMLRetireOperator
from slipway.registry import Registry
from slipway_sandbox.azure.server import Sandbox
from tests.azureml import driving
from tests.azureml.conftest import ROWS
from tests.azureml.driving import FAST, IMAGE, context, deploy, execute, plan_of, undeploy
from tests.sandbox_azure.load import constant_load

pytestmark = [pytest.mark.requires("npm"), pytest.mark.usefixtures("registered")]


def score(sandbox: Sandbox, endpoint: str, **headers: str) -> httpx.Response:
    """Ask as a client does, with the endpoint's key."""
    found = sandbox.endpoints.known[endpoint]
    headers = {"Authorization": f"Bearer {found.keys['primaryKey']}", **headers}
    bundle = str(sandbox.certificates.bundle)
    return httpx.post(found.properties["scoringUri"], json=ROWS, headers=headers, verify=bundle, timeout=30)


def deployments(sandbox: Sandbox, endpoint: str) -> list[str]:
    found = sandbox.endpoints.known.get(endpoint)
    return sorted(found.deployments) if found else []


def modified(sandbox: Sandbox, endpoint: str) -> list[str]:
    """When an endpoint and each of its deployments was changed last."""
    found = sandbox.endpoints.known[endpoint]
    resources = [found.resource, *(deployment.resource for deployment in found.deployments.values())]
    return [resource["systemData"]["lastModifiedAt"] for resource in resources]


def recorded(endpoint: str) -> str | None:
    record = Registry(MlflowHook()).find_deployment("echo", "azureml", endpoint)
    return record.version if record else None


def test_the_whole_life(sandbox: Sandbox) -> None:
    published = deploy("1", "life", tags={"team": "risk"})
    assert score(sandbox, "life").json()["predictions"] == ["one", "one"]
    assert published["url"] == sandbox.endpoints.known["life"].properties["scoringUri"]
    assert published["image"] == IMAGE["image"]
    assert published["details"]["instance_type"] == "Standard_DS3_v2"
    first = published["deployment"]
    resource = sandbox.endpoints.known["life"].deployments[first].resource
    assert resource["tags"]["team"] == "risk"
    assert resource["tags"][names.VERSION] == "1"

    # The same again changes nothing, and needs no azure-ai-ml.
    before = modified(sandbox, "life")
    assert deploy("1", "life", tags={"team": "risk"}) == published
    assert modified(sandbox, "life") == before

    second = deploy("2", "life")["deployment"]
    assert {score(sandbox, "life").json()["predictions"][0] for _ in range(10)} == {"two"}
    assert deployments(sandbox, "life") == [second]
    assert recorded("life") == "2"

    with pytest.raises(AirflowFailException, match="ResourceNotReady"):
        deploy("3", "life")
    with pytest.raises(AirflowFailException, match="does not give the golden sample's output"):
        deploy("4", "life")
    assert score(sandbox, "life").json()["predictions"] == ["two", "two"]
    assert deployments(sandbox, "life") == [second], "nothing new is left behind"
    assert recorded("life") == "2"

    # Back to the version before: its model asset is there still.
    deploy("1", "life")
    assert score(sandbox, "life").json()["predictions"] == ["one", "one"]

    undeploy("life")
    assert "life" not in sandbox.endpoints.known
    assert recorded("life") is None
    assert sandbox.assets.versions, "assets are kept"
    with pytest.raises(AirflowFailException, match="is not deployed to endpoint 'life' on azureml"):
        undeploy("life")


def test_other_tags_reach_what_serves_already_and_replace_nothing(sandbox: Sandbox) -> None:
    first = deploy("1", "tagged", tags={"team": "risk"})
    endpoint = sandbox.endpoints.known["tagged"]
    server = endpoint.deployments[first["deployment"]].replica
    endpoint.resource["tags"]["policy"] = "somebody's"
    changed = {"team": "fraud", "cost": "17"}
    ctx, plan = context(), plan_of("1", "tagged", tags=changed)
    with pytest.raises(AirflowSkipException):
        execute(AzureMLCheckOperator(task_id="check", plan=plan, traffic=FAST, dry=True), ctx)
    assert ctx["ti"].pushed["dry_run"] == [
        "Tags of tagged are set: cost, team.", f"Tags of {first['deployment']} are set: cost, team.",
    ]  # fmt: skip
    assert deploy("1", "tagged", tags=changed) == first
    deployment = endpoint.deployments[first["deployment"]]
    for resource in (endpoint.resource, deployment.resource):
        assert resource["tags"].items() >= {**changed, names.MODEL: "echo"}.items()
    assert endpoint.resource["tags"]["policy"] == "somebody's"
    assert deployment.replica is server, "no roll-out"
    assert endpoint.traffic == {first["deployment"]: 100}
    before = modified(sandbox, "tagged")
    deploy("1", "tagged", tags=changed)
    deploy("1", "tagged")
    assert modified(sandbox, "tagged") == before, "no change, no write"


def test_a_new_endpoint_runs_as_the_identity_that_is_asked_for(sandbox: Sandbox) -> None:
    group = sandbox.settings.workspace_id.partition("/providers/")[0]
    mine, other = (f"{group}/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{name}" for name in "ab")
    deploy("1", "own", identity=mine)
    identity = sandbox.endpoints.known["own"].resource["identity"]
    assert (identity["type"], list(identity["userAssignedIdentities"])) == ("UserAssigned", [mine])
    deploy("1", "own", identity=mine.upper())
    deploy("2", "own")  # it keeps what it has
    for asked, sentence in ((other, "has another identity than .* Azure does not let"), ("b", "is no user-assigned")):
        with pytest.raises(AirflowFailException, match=sentence):
            deploy("1", "own", identity=asked)


def test_a_failing_version_says_code_and_log_and_never_gets_traffic(
    sandbox: Sandbox, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    deploy("1", "clear")
    answers: list[str] = []
    real = sandbox.scoring._forward

    async def noted(name: str, *rest: Any) -> Any:
        answers.append(name)
        return await real(name, *rest)

    sandbox.scoring._forward = noted  # type: ignore[method-assign]
    try:
        with pytest.raises(AirflowFailException) as failed:
            deploy("3", "clear")
    finally:
        sandbox.scoring._forward = real  # type: ignore[method-assign]
    sentence = str(failed.value)
    assert sentence.startswith("Deployment v3-")
    assert "failed at Azure with ResourceNotReady (User container has crashed" in sentence
    assert "the container's last line is" in sentence
    assert "the weights are from another planet" in caplog.text + capsys.readouterr().out
    assert not [name for name in answers if name.startswith("v3")]


def test_a_new_endpoint_that_fails_is_gone(sandbox: Sandbox) -> None:
    with pytest.raises(AirflowFailException, match="ResourceNotReady"):
        deploy("3", "never")
    assert "never" not in sandbox.endpoints.known


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("quota", "OutOfQuota .*choose a smaller instance type or count"),
        ("image_pull", "BadArgument .*the endpoint's identity has AcrPull"),
        ("liveness", "ResourceNotReady .*must answer its liveness route"),
    ],
)
def test_what_azure_refuses_is_one_clear_sentence(sandbox: Sandbox, fault: str, sentence: str) -> None:
    sandbox.faults.set({"kind": fault})
    with pytest.raises(AirflowFailException, match=sentence) as failed:
        deploy("1", "refused")
    assert "\n" not in str(failed.value)
    assert "refused" not in sandbox.endpoints.known


def test_a_taken_name_is_one_clear_sentence(sandbox: Sandbox) -> None:
    sandbox.faults.set({"kind": "name_taken", "times": 10})
    with pytest.raises(AirflowFailException, match="The name 'taken' is taken by another endpoint in this"):
        deploy("1", "taken")


def test_a_deployment_whose_answer_broke_off_is_adopted(sandbox: Sandbox) -> None:
    deploy("1", "broken-off")
    sandbox.faults.set({"kind": "drop", "match": "PUT .*/deployments/"})
    with suppress(AirflowException):  # what azure-ai-ml tries again meets the operation that is under way
        deploy("2", "broken-off")
    second = deploy("2", "broken-off")["deployment"]
    assert deployments(sandbox, "broken-off") == [second]


def test_provisioning_that_is_stuck_ends_at_the_limit(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy("1", "patient")
    sandbox.faults.set({"kind": "stuck"})
    monkeypatch.setenv("AIRFLOW__SLIPWAY__READY_TIMEOUT_SECONDS", "7")
    with pytest.raises(AirflowFailException, match=r"was still Creating in Azure after 7 s, which is the limit"):
        deploy("2", "patient")
    assert len(deployments(sandbox, "patient")) == 1
    assert score(sandbox, "patient").json()["predictions"] == ["one", "one"]


def test_a_dry_run_says_what_would_change_and_changes_nothing(sandbox: Sandbox) -> None:
    published = deploy("1", "dry")
    ctx = context()
    for version, words in (("1", "nothing changes"), ("2", f"Traffic moves from {published['deployment']}")):
        with pytest.raises(AirflowSkipException):
            execute(AzureMLCheckOperator(task_id="check", plan=plan_of(version, "dry"), traffic=FAST, dry=True), ctx)
        assert words in " ".join(ctx["ti"].pushed["dry_run"])
    assert deployments(sandbox, "dry") == [published["deployment"]]


@pytest.mark.parametrize(
    ("options", "traffic", "sentence"),
    [
        ({"tags": {"slipway.model": "x"}}, FAST, "Tag 'slipway.model' is not allowed"),
        ({"autoscaling": {"min": 3, "max": 2}}, FAST, "max is less than min"),
        ({}, {"steps": [50, 10]}, "must rise from at least 1 and end with 100"),
        ({}, {"steps": [100], "mirror": 60}, "mirror: Input should be less than or equal to 50"),
    ],
)
def test_options_that_make_no_sense_fail_before_anything_is_made(
    sandbox: Sandbox, options: dict[str, Any], traffic: Any, sentence: str
) -> None:
    with pytest.raises(AirflowFailException, match=sentence):
        deploy("1", "senseless", traffic=traffic, **options)
    assert "senseless" not in sandbox.endpoints.known


def test_names_of_azure(sandbox: Sandbox) -> None:
    with pytest.raises(AirflowFailException, match="use 3 to 32 lower-case letters"):
        deploy("1", "a-name-of-more-than-thirty-two-letters")


def test_an_endpoint_that_slipway_did_not_make_is_left_alone(sandbox: Sandbox) -> None:
    AzureMLEndpointHook().arm.put(
        "/onlineEndpoints/foreign", {"location": "x", "properties": {"authMode": "Key"}, "tags": {"owner": "somebody"}}
    )
    for act in (lambda: deploy("1", "foreign"), lambda: undeploy("foreign")):
        with pytest.raises(AirflowFailException, match="was not made by Slipway"):
            act()
    assert "foreign" in sandbox.endpoints.known


def test_one_deploy_of_an_endpoint_at_a_time(sandbox: Sandbox) -> None:
    deploy("1", "busy")
    plan = plan_of("2", "busy")
    execute(AzureMLDeployOperator(task_id="deploy", plan=plan, image=IMAGE, traffic=FAST), context("first"))
    with pytest.raises(AirflowException, match=r"Another deploy of endpoint 'busy' .* \(deploy_azureml/first"):
        deploy("4", "busy", run="second")
    assert plan["deployment"] in deployments(sandbox, "busy")
    # A claim ends: what the first run left is in nobody's way later, and is gone with the next deploy.
    tags = sandbox.endpoints.known["busy"].deployments[plan["deployment"]].resource["tags"]
    tags[names.CLAIMED_UNTIL] = str(int(time.time()) - 1)
    # That the version is live already is no reason to leave it.
    live = deploy("1", "busy", run="third")["deployment"]
    assert deployments(sandbox, "busy") == [live]


def test_autoscaling_comes_and_goes_with_its_deployment(sandbox: Sandbox) -> None:
    deploy("1", "scaled", autoscaling={"min": 1, "max": 4, "cpu": 60})
    (setting,) = sandbox.autoscale.known.values()
    profile = setting["properties"]["profiles"][0]
    assert profile["capacity"] == {"minimum": "1", "maximum": "4", "default": "1"}
    assert [rule["metricTrigger"]["threshold"] for rule in profile["rules"]] == [60, 30]
    deploy("2", "scaled")
    assert not sandbox.autoscale.known


def test_mirroring_comes_first_where_it_is_asked_for(sandbox: Sandbox) -> None:
    deploy("1", "mirror")
    seen: list[tuple[dict[str, int], dict[str, int]]] = []
    real = AzureMLEndpointHook.set_traffic

    def noted(self: Any, endpoint: str, shares: dict[str, int], mirror: dict[str, int] | None = None) -> Any:
        seen.append((shares, mirror or {}))
        return real(self, endpoint, shares, mirror)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AzureMLEndpointHook, "set_traffic", noted)
        second = deploy("2", "mirror", traffic={"steps": [30, 100], "wait": 0, "mirror": 20})["deployment"]
    assert [mirror for _, mirror in seen] == [{second: 20}, {}, {}]
    assert [shares.get(second, 0) for shares, _ in seen] == [0, 30, 100]


def test_a_version_that_fails_while_traffic_shifts_gives_it_all_back(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = deploy("1", "midway")["deployment"]
    endpoint = sandbox.endpoints.known["midway"]
    shares: list[int] = []
    real = sandbox.scoring._forward

    async def turning(name: str, deployment: Any, body: bytes, *rest: Any) -> Any:
        """Pass on; the golden sample gets another answer of the second version once that has traffic."""
        if name == first or not endpoint.traffic.get(name) or json.loads(body) != ROWS:
            return await real(name, deployment, body, *rest)
        shares.append(endpoint.traffic[name])
        return Response('{"predictions": ["three", "three"]}', media_type="application/json")

    one = {"columns": ["a"], "data": [[1.0]]}
    with constant_load(sandbox, "midway", one) as load:
        with monkeypatch.context() as patch:
            patch.setattr(sandbox.scoring, "_forward", turning)
            with pytest.raises(AirflowFailException, match="does not give the golden sample's output"):
                deploy("2", "midway", traffic={"steps": [10, 100], "wait": 0.5})
        assert shares == [10]
        assert endpoint.traffic == {first: 100}
        assert deployments(sandbox, "midway") == [first]
        assert recorded("midway") == "1"
        deploy("2", "midway", traffic={"steps": [50, 100], "wait": 0})
        assert deploy("1", "midway", traffic={"steps": [50, 100], "wait": 0})["deployment"] == first
        assert endpoint.traffic == {first: 100}
    assert load.failures == []
    assert set(load.predictions) == {"one", "two"}


def test_each_share_is_held_also_where_azure_takes_its_time(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    deploy("1", "slow")
    waits: list[str] = []
    real = driving.first_event

    async def noted(trigger: Any) -> Any:
        waits.append(type(trigger).__name__)
        return await real(trigger)

    monkeypatch.setattr(driving, "first_event", noted)
    monkeypatch.setattr("slipway.operators.azureml_base._SHORT_WAIT_SECONDS", 0.0)
    deploy("2", "slow", traffic={"steps": [50, 100], "wait": 0.5})
    shift = waits[waits.index("TimeDeltaTrigger") - 1 :]
    assert shift[:3] == ["AzureMLStateTrigger", "TimeDeltaTrigger", "AzureMLStateTrigger"]
    assert waits.count("TimeDeltaTrigger") == 1
    undeploy("slow")
    assert "slow" not in sandbox.endpoints.known


def restore(plan: dict[str, Any], run: str = "manual", **states: str) -> str:
    ctx = context(run)
    ctx["ti"].states = states
    return str(execute(AzureMLRestoreOperator(task_id="restore", plan=plan), ctx))


def begin(plan: dict[str, Any], run: str = "manual") -> None:
    """Begin a deploy, up to where it waits for Azure the first time."""
    operator = AzureMLDeployOperator(task_id="deploy", plan=plan, image=IMAGE, traffic=FAST)
    with pytest.raises(TaskDeferred):
        operator.execute(context(run))


def test_a_deploy_that_is_cancelled_while_it_waits_leaves_nothing(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway.operators.azureml_base._SHORT_WAIT_SECONDS", 0.0)
    new = plan_of("1", "cut")
    begin(new)
    restore(new)
    assert "cut" not in sandbox.endpoints.known
    first = deploy("1", "cut")["deployment"]
    sandbox.faults.set({"kind": "stuck"})  # while the deployment is being made
    second = plan_of("2", "cut")
    begin(second)
    assert deployments(sandbox, "cut") == sorted([first, second["deployment"]])
    assert f"serves {first}" in restore(second)
    assert deployments(sandbox, "cut") == [first]
    assert score(sandbox, "cut").json()["predictions"] == ["one", "one"]
    assert "nothing to undo" in restore(plan_of("1", "cut"))


def test_a_restore_leaves_alone_what_other_runs_and_models_have(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = plan_of("1", "shared"), plan_of("2", "shared")
    monkeypatch.setattr("slipway.operators.azureml_base._SHORT_WAIT_SECONDS", 0.0)
    begin(one, "first")
    assert not deployments(sandbox, "shared"), "the endpoint comes first"
    restore(two, "second")
    assert "shared" in sandbox.endpoints.known
    execute(AzureMLDeployOperator(task_id="deploy", plan=one, image=IMAGE, traffic=FAST), context("first"))
    restore(two, "second")
    assert sandbox.endpoints.known["shared"].traffic == {}, "what is not verified yet is not put in service"
    assert deployments(sandbox, "shared") == [one["deployment"]]
    stranger = {**plan_of("1", "shared", instance_count=2), "model": "another"}
    assert "is model 'echo's" in restore(stranger)
    assert deployments(sandbox, "shared") == [one["deployment"]]
    restore(one, "first")
    assert "shared" not in sandbox.endpoints.known


def test_a_deploy_that_is_cancelled_after_it_is_published_leaves_no_old_one(sandbox: Sandbox) -> None:
    deploy("1", "nearly")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AzureMLRetireOperator, "advance", lambda *_: [])
        patch.setattr(AzureMLRestoreOperator, "run", lambda *_: "")
        second = deploy("2", "nearly")["deployment"]
    assert len(deployments(sandbox, "nearly")) == 2
    restore(plan_of("2", "nearly"), publish="success", retire="skipped")
    deadline = time.monotonic() + 60
    while deployments(sandbox, "nearly") != [second]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_undeploying_with_assets_leaves_those_of_other_endpoints(sandbox: Sandbox) -> None:
    deploy("1", "stays")
    deploy("1", "goes")
    deploy("2", "goes")
    undeploy("goes", assets=True)
    (left,) = [version for kind, _, version in sandbox.assets.versions if kind == "models"]
    assert left.startswith("1-")
    undeploy("stays", assets=True)
    assert [kind for kind, *_ in sandbox.assets.versions] == ["environments"]


def test_undeploying_with_assets_removes_them(sandbox: Sandbox) -> None:
    deploy("1", "clean")
    assert [kind for kind, *_ in sandbox.assets.versions] == ["models", "environments"]
    undeploy("clean", assets=True)
    assert [kind for kind, *_ in sandbox.assets.versions] == ["environments"]
