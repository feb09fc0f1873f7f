"""A commit to an object store, as moto serves one, where a rename is a copy of each object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slipway_spark.commit import MANIFEST, Output
from tests.bundles.s3 import running_bucket

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1"}


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, Any]]:
    """The URI of an output and a client."""
    with running_bucket("aws_commit") as (_, client):
        for name, value in {**KEYS, "AWS_ENDPOINT_URL": client.meta.endpoint_url}.items():
            monkeypatch.setenv(name, value)
        yield "s3a://aws-commit/out 100%25", client


def put(client: Any, *names: str) -> None:
    for name in names:
        client.put_object(Bucket="aws-commit", Key=f"out 100%25/{name}", Body=name.encode())


def found(client: Any) -> list[str]:
    listed = client.list_objects_v2(Bucket="aws-commit").get("Contents", [])
    return sorted(entry["Key"].removeprefix("out 100%25/") for entry in listed if not entry["Key"].endswith("/"))


def staged(root: str, client: Any, attempt: str, *names: str) -> Output:
    output = Output(root, "mine", attempt)
    output.prepare()
    put(client, *(f"_slipway/mine/{attempt}/{name}" for name in names))
    return output


def test_the_manifest_comes_last_and_a_copy_that_fails_leaves_no_half(
    bucket: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    root, client = bucket
    staged(root, client, "t1", "one", "two").publish({})
    whole = [f"execution=mine/{name}" for name in (MANIFEST, "one", "two")]
    assert found(client) == whole

    second = staged(root, client, "t2", "three", "four")
    files: Any = second._files
    copied: list[list[str]] = []

    class Failing:
        """The store, which goes away after the first copy."""

        def __getattr__(self, name: str) -> Any:
            return getattr(store, name)

        def copy_file(self, source: str, target: str) -> None:
            copied.append(found(client))
            if len(copied) == 2:
                raise OSError("the store has gone")
            store.copy_file(source, target)

    store = files._fs
    monkeypatch.setattr(files, "_fs", Failing())
    with pytest.raises(OSError, match="has gone"):
        second.publish({})
    assert all(f"execution=mine/{MANIFEST}" not in names for names in copied), "no manifest until all is there"
    assert [name for name in found(client) if name.startswith("execution=")] == []

    staged(root, client, "t3", "five").publish({})
    assert found(client) == [f"execution=mine/{name}" for name in (MANIFEST, "five")]
