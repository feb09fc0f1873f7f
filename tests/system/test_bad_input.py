"""Bad bundles through a real Airflow: one sentence, no retry, and nothing has changed.

tests/bundles/test_corpus.py takes every kind through the same steps without Airflow; here are all that get past the
first step, and a part of those that do not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from slipway_stack.airflow_api import Run
from tests.bundles.corpus import CORPUS, Bad
from tests.stack.running import RunningStack

# As many as the stack's task slots: more would only queue.
AT_ONCE = 8
REFUSED_FIRST = [bad for bad in CORPUS if bad.step == "check"]
KINDS = [bad for bad in CORPUS if bad.step != "check"] + REFUSED_FIRST[::6]


def state_of_the_world(stack: RunningStack) -> dict[str, object]:
    """The bundle store's files, MLflow's models, the host's endpoints."""
    bundles = stack.stack.bundles
    files = {
        str(path.relative_to(bundles)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(bundles.rglob("*"))
        if path.is_file()
    }
    models = httpx.get(f"{stack.mlflow_url}/api/2.0/mlflow/registered-models/search").json()
    admin = {"Authorization": f"Bearer {stack.keys.model_host_token}"}
    endpoints = httpx.get(f"{stack.model_host_admin_url}/v1/endpoints", headers=admin).json()
    return {"files": files, "models": models, "endpoints": endpoints}


@pytest.fixture(scope="module")
def outcomes(stack: RunningStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Run]]:
    """Each bad bundle's run, when it is over; what was there before is still there and nothing else is."""
    folder: Path = tmp_path_factory.mktemp("bad")
    before = state_of_the_world(stack)
    runs: dict[str, Run] = {}
    for start in range(0, len(KINDS), AT_ONCE):
        started = []
        for bad in KINDS[start : start + AT_ONCE]:
            path = folder / f"{bad.kind}.zip"
            path.write_bytes(bad.build())
            started.append((bad.kind, stack.trigger("import_bundle", {"bundle_uri": path.as_uri()})))
        runs |= {kind: stack.wait(run) for kind, run in started}
    assert state_of_the_world(stack) == before
    return runs


@pytest.mark.parametrize("bad", KINDS, ids=lambda bad: bad.kind)
def test_a_bad_bundle_is_refused_in_its_documented_sentence(
    stack: RunningStack, outcomes: dict[str, Run], bad: Bad
) -> None:
    run = outcomes[bad.kind]
    assert run.state == "failed"
    failed = [task for task in stack.airflow.tasks(run) if task.state == "failed"]
    assert [task.task_id for task in failed] == [bad.step]
    assert failed[0].try_number == 1, "a user's mistake is not retried"
    sentence = stack.xcom(run, bad.step, "error")
    assert bad.matches(sentence), sentence
    assert stack.airflow.failure(run)[1] == sentence
