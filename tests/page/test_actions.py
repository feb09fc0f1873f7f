"""The enablement rules, in every state that a model can be in."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from slipway.domain import DeploymentRecord, ModelVersion
from slipway.registry import BUNDLE_TAG, LOCK_TAG
from slipway.web.core import AirflowRefusal
from slipway.web.page.actions import find, menu
from slipway.web.page.airflow import ACTIONS, TARGETS, Airflow, Dag, Run, Runs
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
    active = Run("deploy_mlflow", "m-1", "Deploy to MLflow", going, {"model": "m"}, None, True, NOW, None, None)
    assert enabled(STATES[state][0], active=active) == set()


@pytest.mark.parametrize("change", [{"may_run": False}, {"paused": True}])
def test_nothing_can_be_chosen_that_would_not_run(change: dict[str, Any]) -> None:
    dags = {name: replace(dag, **change) for name, dag in DAGS.items()}
    assert enabled(STATES["deployed to two"][0], dags) == set()


@pytest.mark.parametrize(
    ("conf", "about"),
    [
        ({"bundle_uri": "file:///inbox/churn%201.zip"}, "churn 1"),
        ({"bundle_uri": "s3://aws_default@models/risk.zip?versionId=3"}, "risk"),
        ({"bundle_uri": "file:///inbox/churn.zip", "name": "other"}, "other"),
        ({}, None),
    ],
)
def test_an_import_without_a_name_is_about_what_its_file_is_called(conf: dict[str, Any], about: str | None) -> None:
    raw = {"dag_id": "import_bundle", "dag_run_id": "x-1", "state": "failed", "conf": conf}
    assert Run.of(raw).model == about
    assert Run.of({**raw, "dag_id": "score_workflow"}).model == conf.get("name")


class TwoServers(Airflow):
    """Airflow's API as one of two servers sees it, on which two actions of a model are started in the same moment."""

    def __init__(self, runs: list[Run], both: asyncio.Barrier) -> None:
        super().__init__("")
        self._there, self._both = runs, both

    async def runs(self, dag_ids: Iterable[str] = ACTIONS) -> Runs:
        there = Runs(tuple(self._there))
        if not there.newest_first:
            await self._both.wait()  # neither has started when each looks first
        return there

    async def start(self, dag_id: str, subject: str, conf: dict[str, Any]) -> str:
        self._there.append(Run(dag_id, "m-1", dag_id, "queued", conf, None, True, NOW, None, None))
        return "m-1"

    async def _call(self, method: str, path: str, **_: Any) -> Any:
        assert method == "DELETE"
        self._there[:] = [run for run in self._there if f"/dags/{run.dag_id}/dagRuns/{run.run_id}" != path]


def test_two_actions_that_two_servers_start_at_once_do_not_both_run() -> None:
    async def both() -> tuple[list[Run], list[object]]:
        runs: list[Run] = []
        barrier = asyncio.Barrier(2)
        starts = [TwoServers(runs, barrier).start_alone(dag, "m", {"model": "m"}) for dag in ("deploy_x", "undeploy_x")]
        return runs, await asyncio.gather(*starts, return_exceptions=True)

    left, ends = asyncio.run(both())
    refused = [end for end in ends if isinstance(end, AirflowRefusal)]
    assert refused
    assert all(end.status == 409 and "wait for its end" in end.reason for end in refused)
    assert len(left) == 2 - len(refused)


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
