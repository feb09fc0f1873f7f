"""The enablement rules, in every state that a model can be in."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from slipway.domain import DeploymentRecord, ModelVersion
from slipway.registry import BUNDLE_TAG, LOCK_TAG
from slipway.web.page.actions import find, menu
from slipway.web.page.airflow import ACTIONS, TARGETS, Dag, Run
from slipway.web.page.models import Bundle, Model, Version

NOW = datetime.now(UTC)
DAGS = {name: Dag(name, name, paused=False) for name in ACTIONS}
BUNDLE = Bundle("a" * 64, NOW, "", "")
NEWER = Bundle("b" * 64, NOW, "", "")


def version(number: str = "1", bundle: str | None = "a" * 64, status: str = "READY", *on: str) -> Version:
    tags = {BUNDLE_TAG: bundle, LOCK_TAG: "c" * 64} if bundle else {}
    records = tuple(
        DeploymentRecord(endpoint="m", target=t, url="http://x", model="m", version=number, deployment="v1-0",
                         deployed_at=NOW, run="deploy/x")
        for t in on
    )  # fmt: skip
    return Version(ModelVersion(name="m", version=number, source="s", status=status, tags=tags), NOW, "", records)


def model(*versions: Version, bundles: tuple[Bundle, ...] = ()) -> Model:
    return Model("m", registered=bool(versions), versions=versions, bundles=bundles, imported=bool(bundles))


DEPLOYS = {f"deploy_{target}" for target in TARGETS} | {"build_and_push_image"}
STATES: dict[str, tuple[Model, set[str]]] = {
    "unknown": (model(), set()),
    "imported": (model(bundles=(BUNDLE,)), {"register_model"}),
    "registered": (model(version(), bundles=(BUNDLE,)), {"re_register", *DEPLOYS}),
    "a newer bundle": (
        model(version(), bundles=(NEWER, BUNDLE)), {"register_model", "re_register", *DEPLOYS}
    ),
    "the bundle is gone": (model(version()), DEPLOYS),
    "not ready": (model(version(status="PENDING_REGISTRATION"), bundles=(BUNDLE,)), {"register_model", "re_register"}),
    "made elsewhere": (model(version(bundle=None)), {"register_model"}),
    **{
        f"deployed to {target}": (
            model(version("1", "a" * 64, "READY", target), bundles=(BUNDLE,)),
            {"re_register", *DEPLOYS, f"undeploy_{target}"},
        )
        for target in TARGETS
    },
    "deployed to two": (
        model(version("2", "a" * 64, "READY", "docker"), version("1", "a" * 64, "READY", "mlflow"), bundles=(BUNDLE,)),
        {"re_register", *DEPLOYS, "undeploy_docker", "undeploy_mlflow"},
    ),
}  # fmt: skip


def enabled(known: Model, dags: dict[str, Dag] = DAGS, active: Run | None = None) -> set[str]:
    return {action.id for group in menu(known, dags, active) for action in group.actions if action.enabled}


@pytest.mark.parametrize("state", STATES)
def test_what_can_be_chosen(state: str) -> None:
    known, expected = STATES[state]
    assert enabled(known) == expected
    offered = [action for group in menu(known, DAGS, None) for action in group.actions]
    assert len(offered) == 2 + 2 * len(TARGETS) + 1, "what cannot be chosen is shown"
    assert all(action.why.endswith((".", "first.")) for action in offered if not action.enabled), "each with a reason"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("going", ["queued", "running"])
def test_nothing_can_be_chosen_while_an_action_runs(state: str, going: str) -> None:
    active = Run("deploy_mlflow", "m-1", "Deploy to MLflow", going, {"model": "m"}, None, NOW, None, None)
    assert enabled(STATES[state][0], active=active) == set()


@pytest.mark.parametrize("change", [{"may_run": False}, {"paused": True}])
def test_nothing_can_be_chosen_that_would_not_run(change: dict[str, Any]) -> None:
    dags = {name: replace(dag, **change) for name, dag in DAGS.items()}
    assert enabled(STATES["deployed to two"][0], dags) == set()


def test_a_dag_that_is_not_there_is_not_offered() -> None:
    dags = {name: DAGS[name] for name in ("register_model", "deploy_mlflow")}
    groups = menu(STATES["deployed to two"][0], dags, None)
    assert [action.id for group in groups for action in group.actions] == [
        "register_model",
        "re_register",
        "deploy_mlflow",
    ]
    assert find(groups, "deploy_docker") is None


def test_presets_name_what_the_page_knows() -> None:
    groups = menu(STATES["deployed to two"][0], DAGS, None)
    presets = {action.id: action.preset for group in groups for action in group.actions}
    assert presets["deploy_mlflow"] == {"model": "m", "version": "2"}
    assert presets["undeploy_docker"] == {"model": "m", "endpoint": "m"}
    assert presets["re_register"] == {"name": "m", "bundle": "a" * 64, "force": True}
    foreign = menu(STATES["made elsewhere"][0], DAGS, None)
    assert find(foreign, "register_model").preset == {"name": "m", "model_uri": "models:/m/1"}  # type: ignore[union-attr]
