"""No payload yields a 5xx: ten thousand of them, from near misses of the right shapes to noise."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.scoring.inprocess import InProcess
from tests.scoring.models import IRIS, MIXED, MIXED_ROW

BATCH = 20
"""Payloads in one example; they are sent together, so batches are fuzzed too."""
EXAMPLES = 260

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from(["1", "NaN", "", "\ud800"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
names = st.one_of(st.sampled_from([*IRIS, *(str(column["name"]) for column in MIXED)]), st.text(max_size=4))
records = st.one_of(
    st.dictionaries(names, values, max_size=6),
    st.tuples(names, values).map(lambda change: {**MIXED_ROW, change[0]: change[1]}),
    st.tuples(st.sampled_from(IRIS), values).map(lambda change: {**dict.fromkeys(IRIS, 1.0), change[0]: change[1]}),
)
splits = st.fixed_dictionaries(
    {"data": st.one_of(st.lists(st.lists(values, max_size=5), max_size=3), values)},
    optional={
        "columns": st.one_of(st.just(IRIS), st.lists(names, max_size=5), values),
        "index": values,
        "more": values,
    },
)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(names, values),
        "shape": st.one_of(st.lists(st.integers(-2, 5), max_size=3), values),
        "datatype": st.one_of(st.sampled_from(["FP64", "INT64", "BYTES", "BOOL", "FP16"]), values),
        "data": values,
        "parameters": st.one_of(st.dictionaries(st.just("binary_data_size"), values), values),
    },
)
documents = st.one_of(
    values,
    splits,
    st.fixed_dictionaries({"dataframe_split": st.one_of(splits, values)}, optional={"params": values}),
    st.fixed_dictionaries({"dataframe_records": st.one_of(st.lists(records, max_size=3), values)}),
    st.fixed_dictionaries({"instances": st.one_of(st.lists(records, max_size=3), st.lists(st.lists(scalars)), values)}),
    st.fixed_dictionaries({"inputs": st.one_of(st.dictionaries(names, st.lists(scalars, max_size=3)), values)}),
    st.fixed_dictionaries({"input_data": st.one_of(splits, values)}, optional={"params": values}),
    st.fixed_dictionaries(
        {"inputs": st.lists(tensors, max_size=3)}, optional={"outputs": values, "parameters": values}
    ),
)
texts = st.one_of(
    documents.map(lambda document: json.dumps(document).encode()),
    st.binary(max_size=60),
    st.lists(st.lists(scalars, min_size=4, max_size=4), max_size=3).map(
        lambda rows: "\n".join([",".join(IRIS), *(",".join(map(str, row)) for row in rows)]).encode("utf-8", "replace")
    ),
)
content_types = st.sampled_from(
    [None, "application/json", "text/csv", "text/csv; header=absent", "application/jsonlines",
     "application/vnd.apache.parquet", "application/vnd.apache.arrow.stream", "image/png", "a;b=c;d"]
)  # fmt: skip
accepts = st.sampled_from(
    [None, "text/csv", "application/jsonlines", "application/vnd.apache.arrow.stream", "x;q=y", "*/*"]
)
paths = st.sampled_from(["/invocations", "/invocations", "/predict", "/score", "/v2/models/{name}/infer"])
header_lengths = st.sampled_from([None, None, None, "0", "5", "-1", "x"])
requests = st.tuples(paths, texts, content_types, accepts, header_lengths)


async def _send(server: InProcess, request: Any) -> int:
    path, body, content_type, accept, header_length = request
    given_headers = {
        "content-type": content_type,
        "accept": accept,
        "inference-header-content-length": header_length,
    }
    headers = {name: value for name, value in given_headers.items() if value is not None}
    answer = await server.send("POST", path.replace("{name}", server.model.name), body, headers)
    if answer.status >= 400:
        document = json.loads(answer.body)
        assert set(document) == {"error_code", "message"}
        assert "Traceback" not in document["message"]
    return answer.status


def _fuzz(server: InProcess, batch: list[Any]) -> None:
    async def together() -> list[int]:
        return list(await asyncio.gather(*(_send(server, request) for request in batch)))

    statuses = server.run(together())
    assert all(200 <= status < 500 for status in statuses), list(zip(statuses, batch, strict=True))


_thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large,
                           HealthCheck.large_base_example],
)  # fmt: skip
batches = st.lists(requests, min_size=BATCH, max_size=BATCH)


@_thorough
@given(batch=batches)
def test_no_payload_breaks_the_linear_model(iris: InProcess, batch: list[Any]) -> None:
    _fuzz(iris, batch)


@_thorough
@given(batch=batches)
def test_no_payload_breaks_the_mixed_bundle(mixed: InProcess, batch: list[Any]) -> None:
    _fuzz(mixed, batch)
