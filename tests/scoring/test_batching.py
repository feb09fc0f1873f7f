"""Batched equals unbatched, whatever comes together; one bad request fails alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from slipway_scoring.batching import Batcher
from slipway_scoring.errors import Overloaded
from slipway_scoring.model import BatchPolicy
from slipway_scoring.outputs import NotByRowError, split, whole
from slipway_scoring.payload import Payload, Tensors
from tests.scoring import models
from tests.scoring.inprocess import Answer, InProcess
from tests.scoring.models import IRIS, MIXED_ROW

finite = st.floats(-1e6, 1e6)
numbers = st.one_of(st.none(), finite, st.sampled_from(["1.5", "NaN"]))
good_rows = st.fixed_dictionaries(
    {
        "number": numbers,
        "count": st.integers(-(2**31), 2**31),
        "flag": st.booleans(),
        "text": st.text(max_size=5),
        "when": st.datetimes(min_value=pd.Timestamp("1900-01-01"), max_value=pd.Timestamp("2100-01-01")).map(
            lambda moment: moment.isoformat()
        ),
        "blob": st.binary(max_size=5).map(lambda data: __import__("base64").b64encode(data).decode()),
        "tags": st.lists(st.text(max_size=3), max_size=3),
        "place": st.just({"lat": 1.0, "lon": 2.0}),
    }
)
bad_rows = st.sampled_from([{}, {**MIXED_ROW, "count": "many"}, {**MIXED_ROW, "when": 5.5}, {**MIXED_ROW, "text": 7}])
mixed_tables = st.lists(st.one_of(good_rows, good_rows, bad_rows), min_size=1, max_size=4)
iris_tables = st.lists(st.lists(numbers, min_size=4, max_size=4), min_size=1, max_size=5)


def _bodies(tables: Sequence[Any]) -> list[bytes]:
    return [json.dumps(table).encode() for table in tables]


async def _apart(server: InProcess, bodies: Sequence[bytes]) -> list[Answer]:
    return [await server.send("POST", "/invocations", body) for body in bodies]


async def _together(server: InProcess, bodies: Sequence[bytes]) -> list[Answer]:
    return list(await asyncio.gather(*(server.send("POST", "/invocations", body) for body in bodies)))


@pytest.fixture(scope="module")
def alone(mixed_directory: Path) -> Iterator[InProcess]:
    """The same model without batching."""
    with InProcess(mixed_directory, batching="off") as server:
        yield server


@pytest.fixture(scope="module")
def iris_alone(iris_directory: Path) -> Iterator[InProcess]:
    """The same model without batching."""
    with InProcess(iris_directory, batching="off") as server:
        yield server


_patient = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@_patient
@given(tables=st.lists(mixed_tables, min_size=2, max_size=6))
def test_mixed_batched_equals_unbatched(mixed: InProcess, alone: InProcess, tables: list[Any]) -> None:
    bodies = _bodies([{"dataframe_records": table} for table in tables])
    batched, unbatched = mixed.run(_together(mixed, bodies)), alone.run(_apart(alone, bodies))
    assert [(a.status, a.body) for a in batched] == [(a.status, a.body) for a in unbatched]


@_patient
@given(tables=st.lists(iris_tables, min_size=2, max_size=8))
def test_linear_batched_equals_unbatched(iris: InProcess, iris_alone: InProcess, tables: list[Any]) -> None:
    bodies = _bodies([{"dataframe_split": {"columns": IRIS, "data": table}} for table in tables])
    batched, unbatched = iris.run(_together(iris, bodies)), iris_alone.run(_apart(iris_alone, bodies))
    assert [(a.status, a.body) for a in batched] == [(a.status, a.body) for a in unbatched]


def _recording(calls: list[int], result: Any = None) -> Any:
    def predict(payloads: Sequence[Payload], params: Mapping[str, Any] | None) -> Any:
        joined = payloads[0].join(payloads[1:])
        calls.append(len(payloads))
        if (joined < 0).any():
            raise ValueError("negative")
        return joined[:, 0] if result is None else result

    return predict


def _run(tables: list[list[list[float]]], policy: BatchPolicy, result: Any = None) -> tuple[list[Any], list[int]]:
    calls: list[int] = []

    async def main() -> list[Any]:
        batcher = Batcher(
            _recording(calls, result), policy, max_queue=100, max_wait=9, time_limit=5, observe=lambda *_: None
        )
        batcher.learn(0.0001, 1)
        jobs = (batcher.submit(Tensors(np.array(table)), None) for table in tables)
        return await asyncio.gather(*jobs, return_exceptions=True)

    return asyncio.run(main()), calls


def test_requests_of_one_moment_share_a_prediction() -> None:
    results, calls = _run([[[1.0]], [[2.0], [3.0]], [[4.0]]], BatchPolicy(enabled=True))
    assert [result.tolist() for result in results] == [[1.0], [2.0, 3.0], [4.0]]
    assert calls == [3]


def test_size_bounds_a_batch() -> None:
    results, calls = _run([[[float(n)]] for n in range(10)], BatchPolicy(enabled=True, max_size=4))
    assert [result.tolist() for result in results] == [[float(n)] for n in range(10)]
    assert calls == [4, 4, 2]


def test_without_batching_each_is_predicted_alone() -> None:
    _, calls = _run([[[1.0]], [[2.0]]], BatchPolicy(enabled=False))
    assert calls == [1, 1]


def test_different_layouts_are_not_joined() -> None:
    results, calls = _run([[[1.0]], [[2.0, 5.0]], [[3.0]]], BatchPolicy(enabled=True))
    assert [result.tolist() for result in results] == [[1.0], [2.0], [3.0]]
    assert sorted(calls) == [1, 2]


def test_one_bad_request_fails_alone() -> None:
    results, _ = _run([[[1.0]], [[-1.0]], [[3.0]]], BatchPolicy(enabled=True))
    assert [type(result).__name__ for result in results] == ["ndarray", "ValueError", "ndarray"]


def test_an_output_that_cannot_be_cut_ends_batching() -> None:
    results, calls = _run([[[1.0]], [[2.0]]], BatchPolicy(enabled=True), result="one answer for all")
    assert results == ["one answer for all"] * 2
    assert calls == [2, 1, 1]


def test_a_lone_request_does_not_wait() -> None:
    async def main() -> float:
        policy = BatchPolicy(enabled=True, max_delay=5.0)
        batcher = Batcher(_recording([]), policy, max_queue=9, max_wait=9, time_limit=9, observe=lambda *_: None)
        batcher.learn(0.0001, 1)
        started = asyncio.get_running_loop().time()
        await batcher.submit(Tensors(np.ones((1, 1))), None)
        return asyncio.get_running_loop().time() - started

    assert asyncio.run(main()) < 1.0


def test_a_request_waits_for_those_on_their_way_but_not_for_ever() -> None:
    calls: list[int] = []

    async def main() -> None:
        policy = BatchPolicy(enabled=True, max_delay=0.2)
        batcher = Batcher(_recording(calls), policy, max_queue=9, max_wait=9, time_limit=9, observe=lambda *_: None)
        batcher.learn(0.0001, 1)
        one = Tensors(np.ones((1, 1)))
        batcher.approach()
        first = asyncio.ensure_future(batcher.submit(one, None))
        await asyncio.sleep(0.05)
        assert not first.done()

        async def second() -> None:
            batcher.arrive()
            await batcher.submit(one, None)

        await asyncio.gather(first, second())
        assert calls == [2]
        batcher.approach()  # And never arrives.
        await asyncio.wait_for(batcher.submit(one, None), 2)

    asyncio.run(main())


def test_the_queue_is_bounded() -> None:
    async def main() -> list[Any]:
        batcher = Batcher(
            _recording([]), BatchPolicy(enabled=False), max_queue=2, max_wait=9, time_limit=9, observe=lambda *_: None
        )
        jobs = (batcher.submit(Tensors(np.ones((1, 1))), None) for _ in range(4))
        return await asyncio.gather(*jobs, return_exceptions=True)

    assert [type(result) for result in asyncio.run(main())][2:] == [Overloaded, Overloaded]


@pytest.mark.parametrize(
    "result",
    [
        np.arange(3),
        np.arange(6).reshape(3, 2),
        [1, 2, 3],
        pd.Series([1, 2, 3]),
        pd.DataFrame({"a": [1, 2, 3]}),
        {"a": np.arange(3), "b": [1, 2, 3]},
    ],
)
def test_outputs_that_can_be_cut(result: Any) -> None:
    first, second = split(result, [1, 2])
    sizes = [len(part["a"] if isinstance(result, dict) else whole(part)) for part in (first, second)]
    assert sizes == [1, 2]


@pytest.mark.parametrize("result", [np.arange(2), np.array(5), [1], "abc", 5, {}, {"a": [1]}, None])
def test_outputs_that_cannot_be_cut(result: Any) -> None:
    with pytest.raises(NotByRowError):
        split(result, [1, 2])


@pytest.mark.parametrize(
    ("manifest", "expected"),
    [
        ({"rows_independent": True}, True),
        ({"rows_independent": False}, False),
        ({"rows_independent": None}, False),
        ({"rows_independent": False, "batching": {"enabled": True, "max_size": 7, "max_delay_ms": 3}}, True),
        ({"rows_independent": True, "batching": {"enabled": False}}, False),
    ],
)
def test_the_policy_of_a_bundle(tmp_path: Path, manifest: dict[str, Any], expected: bool) -> None:
    from slipway_scoring.loaders import load

    code = "class CustomPreprocessor:\n    def predict(self, frame):\n        return frame\n"
    policy = load(models.bundle_model(tmp_path / "m", code, **manifest)).batching
    assert policy.enabled is expected
    if "max_size" in (manifest.get("batching") or {}):
        assert (policy.max_size, policy.max_delay) == (7, 0.003)
