"""A workflow's schedule through a real Airflow, scored in the warm session of a Spark Connect server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.spark.connect import connect_server
from tests.stack.running import RunningStack, running_stack
from tests.system.steps import register
from tests.system.test_score_workflow import scored, until

pytestmark = pytest.mark.requires("java")

ROOT = Path(__file__).parents[2]
DAILY = "scheduled_scoring__breast_cancer_daily"


@pytest.fixture(scope="module")
def stack() -> Iterator[RunningStack]:
    """A stack of its own, whose Spark is a Connect server."""
    with connect_server() as connection:  # noqa: SIM117  # the second needs what the first gives
        with running_stack({"AIRFLOW_CONN_SPARK_DEFAULT": json.dumps(connection)}) as running:
            bundle = (ROOT / "build/bundles/breast-cancer.zip").as_uri()
            register(running, bundle, "breast-cancer", alias="champion")
            yield running


def runs(stack: RunningStack, kind: str) -> list[dict[str, Any]]:
    """The DAG's runs of one type."""
    found = stack.airflow.request("GET", f"/dags/{DAILY}/dagRuns", params={"limit": 50})["dag_runs"]
    return [run for run in found if run["run_type"] == kind]


def test_a_backfill_of_five_days_gives_each_day_its_own_output(stack: RunningStack) -> None:
    body = {"dag_id": DAILY, "from_date": "2026-11-01T00:00:00Z", "to_date": "2026-11-05T00:00:00Z",
            "run_backwards": False, "max_active_runs": 2, "dag_run_conf": {}}  # fmt: skip
    stack.airflow.request("PATCH", f"/dags/{DAILY}", json={"is_paused": False})
    # On SQLite, Airflow refuses a backfill while its scheduler happens to write: ask again.
    until(lambda: stack.airflow.raw("POST", "/api/v2/backfills", json=body).status_code in {200, 409}, 120)

    until(
        lambda: (
            len(runs(stack, "backfill")) == 5
            and all(run["state"] in {"success", "failed"} for run in runs(stack, "backfill"))
        ),
        420,
    )
    assert [run["state"] for run in runs(stack, "backfill")] == ["success"] * 5
    folders = list((stack.stack.home / "scores/breast-cancer-daily").glob("execution=*"))
    # Switched on, the schedule has made its own run for yesterday, of which there is no data.
    patients = [found for folder in folders if (found := set(scored(str(folder))))]
    days = [{patient % 7 for patient in some} for some in patients]
    assert sorted(days, key=min) == [{0}, {1}, {2}, {3}, {4}], "each run scored its own day"


def test_a_new_champion_scores_the_last_interval_again(stack: RunningStack) -> None:
    before = len(runs(stack, "asset_triggered"))
    stack.succeed("register_model", {"name": "breast-cancer", "force": True})
    stack.succeed("register_model", {"name": "breast-cancer", "force": True, "alias": "champion"})
    until(lambda: len(runs(stack, "asset_triggered")) >= before + 1, 60)
    until(lambda: all(run["state"] in {"success", "failed"} for run in runs(stack, "asset_triggered")), 180)
    assert {run["state"] for run in runs(stack, "asset_triggered")} == {"success"}
    published = [stack.airflow.request("GET", f"/dags/{DAILY}/dagRuns/{r['dag_run_id']}/taskInstances/publish")["state"]
                 for r in runs(stack, "asset_triggered")]  # fmt: skip
    assert "success" in published
