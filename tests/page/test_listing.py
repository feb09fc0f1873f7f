"""The list of models, over a real MLflow server with hundreds of them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from slipway.bundles.store import BundleStore
from slipway.errors import Unavailable
from slipway.web.page.airflow import Run, Runs
from slipway.web.page.listing import PAGE, BadCursor, Listing, Query, list_bundles, list_models
from slipway.web.page.models import PageMlflow
from tests.page.conftest import MODELS, CountingMlflow

NONE = Runs(())


def run(model: str, state: str, dag_id: str = "deploy_mlflow") -> Run:
    return Run(dag_id, f"{model}-1", dag_id, state, {"model": model}, "ann", True, datetime.now(UTC), None, None)


def names(listing: Listing) -> list[str]:
    return [row.model.name for row in listing.rows]


def walk(mlflow: PageMlflow, store: BundleStore, runs: Runs = NONE, **params: str) -> list[str]:
    """All pages of a list, one after the other."""
    found: list[str] = []
    trail: tuple[str, ...] = ()
    while True:
        listing = list_models(mlflow, store, Query.of({**params, "page": ".".join(trail)}), runs)
        found += names(listing)
        if listing.next is None:
            return found
        trail = (*trail, listing.next)


def test_every_model_and_bundle_is_on_some_page_once(mlflow: CountingMlflow, store: BundleStore) -> None:
    found = walk(mlflow, store)
    assert len(found) == MODELS + 3
    assert found == sorted(set(found))


@pytest.mark.parametrize("sort", ["-name", "updated", "-updated"])
def test_pages_are_in_order(mlflow: CountingMlflow, store: BundleStore, sort: str) -> None:
    found = walk(mlflow, store, sort=sort, q="model-00")
    registered = [name for name in found if name != "model-0010b"]
    assert len(set(registered)) == len(registered) == 100
    # model-0000 is the last that changed in MLflow; the bundle was imported later still.
    assert registered == sorted(registered, reverse=sort != "-updated")
    place = {"-name": found.index("model-0010") - 1, "updated": len(found) - 1, "-updated": 0}
    assert found.index("model-0010b") == place[sort]


@pytest.mark.parametrize("sort", ["name", "-updated"])
def test_registered_bundles_are_not_shown_twice(mlflow: CountingMlflow, store: BundleStore, sort: str) -> None:
    for number in range(250):
        store.record(f"model-{number:04d}", f"{number:064x}", "file:///x.zip", None)
    store.record("model-00-new", "f" * 64, "file:///x.zip", None)
    found = walk(mlflow, store, sort=sort, q="model-0")
    assert len(found) == len(set(found)) == MODELS + 2


def test_a_page_costs_the_same_calls_however_many_models_there_are(mlflow: CountingMlflow, store: BundleStore) -> None:
    few = list_models(mlflow, store, Query.of({"q": "model-000"}), NONE)
    calls, mlflow.calls = mlflow.calls, 0
    many = list_models(mlflow, store, Query.of({}), NONE)
    assert (len(few.rows), len(many.rows)) == (10, PAGE)
    assert (calls, mlflow.calls) == (2, 2)


def test_a_row_tells_versions_aliases_and_deployments(mlflow: CountingMlflow, store: BundleStore) -> None:
    listing = list_models(mlflow, store, Query.of({"q": "model-0000"}), NONE)
    [row] = listing.rows
    assert row.model.registered
    assert row.model.imported
    assert [version.number for version in row.model.versions] == [str(n) for n in range(10, 0, -1)]
    assert row.model.aliases == {"champion": "10", "challenger": "1"}
    assert [(r.target, r.endpoint, r.version) for r in row.model.deployments] == [("mlflow", "model-0000", "10")]


def test_filters_by_state_and_target(mlflow: CountingMlflow, store: BundleStore) -> None:
    assert walk(mlflow, store, state="imported") == ["aardvark", "model-0010b", "zebra"]
    assert walk(mlflow, store, state="imported", q="ar") == ["aardvark"]
    assert len(walk(mlflow, store, state="registered", q="model-00")) == 100
    deployed = walk(mlflow, store, state="deployed", q="model-00")
    assert deployed == [f"model-{n:04d}" for n in range(0, 100, 3)]
    assert walk(mlflow, store, target="mlflow", q="model-00") == deployed
    assert walk(mlflow, store, target="sagemaker") == []


def test_filters_by_what_runs_and_what_failed(mlflow: CountingMlflow, store: BundleStore) -> None:
    runs = Runs((run("model-0002", "failed"), run("model-0001", "running"), run("model-0001", "failed"),
                 run("zebra", "queued", "register_model"), run("x' OR name LIKE '%", "failed")))  # fmt: skip
    assert walk(mlflow, store, runs, state="running") == ["model-0001", "zebra"]
    assert walk(mlflow, store, runs, state="failed") == ["model-0002"]
    shown = list_models(mlflow, store, Query.of({"q": "model-0001"}), runs)
    assert shown.rows[0].active
    assert shown.rows[0].active.state == "running"


@pytest.mark.parametrize("text", ["'", '"', "\\", "%", "_", "' OR name LIKE '%", "model-00%", "é", "`"])
def test_what_is_searched_for_is_text_and_nothing_else(mlflow: CountingMlflow, store: BundleStore, text: str) -> None:
    assert names(list_models(mlflow, store, Query.of({"q": text}), NONE)) == []


def test_a_search_ignores_case(mlflow: CountingMlflow, store: BundleStore) -> None:
    assert walk(mlflow, store, q="MODEL-0010") == ["model-0010", "model-0010b"]


@pytest.mark.parametrize("page", ["x", "bnVsbA", "WzEsMl0", "W10"])
def test_a_page_that_we_did_not_make_is_refused(mlflow: CountingMlflow, store: BundleStore, page: str) -> None:
    with pytest.raises(BadCursor):
        list_models(mlflow, store, Query.of({"page": page}), NONE)


def test_with_mlflow_away_the_bundles_are_there(store: BundleStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_MLFLOW_DEFAULT", "http://127.0.0.1:9")
    with pytest.raises(Unavailable) as caught:
        list_models(PageMlflow(), store, Query(), NONE)
    listing = list_bundles(store, Query(), NONE, str(caught.value))
    assert names(listing) == ["aardvark", "model-0000", "model-0010b", "zebra"]
    assert "does not answer" in (listing.mlflow_error or "")
