"""Uploads where the bundle store is in S3, as moto serves it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest
from fastapi import HTTPException

from slipway.bundles import uploads as area
from slipway.bundles.folder import open_folder
from slipway.bundles.source import object_path
from slipway.web.page.uploads import receive
from tests.bundles.s3 import running_bucket

# More than one of the parts that S3 takes an upload in.
SENT = b"PK\x03\x04" + bytes(range(256)) * 4096 * 12


@pytest.fixture(scope="module")
def store() -> Iterator[str]:
    with running_bucket("s3_uploads") as (uri, _), pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW__SLIPWAY__BUNDLE_STORE", f"{uri}/page")
        yield f"{uri}/page"


async def parts(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 65536):
        yield data[start : start + 65536]


def test_an_upload_arrives_whole_and_goes_when_it_is_imported(store: str) -> None:
    uri, size = asyncio.run(receive(parts(SENT), "churn.zip", len(SENT)))
    assert uri.startswith(f"{store}/.uploads/")
    assert size == len(SENT)
    assert object_path(uri).read_bytes() == SENT
    assert area.forget(store, uri)
    assert open_folder(store).names(".uploads") == []


def test_a_store_that_fails_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    login = {"conn_type": "aws", "login": "testing", "password": "testing"}
    extra = {"endpoint_url": "http://127.0.0.1:9", "region_name": "us-east-1"}
    monkeypatch.setenv("AIRFLOW_CONN_S3_AWAY", json.dumps({**login, "extra": extra}))
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setenv("AIRFLOW__SLIPWAY__BUNDLE_STORE", "s3://s3_away@nowhere/page")
    with pytest.raises(HTTPException) as caught:
        asyncio.run(receive(parts(SENT), "churn.zip", None))
    assert caught.value.status_code == 507
    assert str(caught.value.detail).startswith("The bundle store cannot take the file (")


def test_nothing_stays_of_what_is_refused_or_breaks_off(store: str) -> None:
    async def breaking() -> AsyncIterator[bytes]:
        async for part in parts(SENT):
            yield part
        raise ConnectionResetError

    async def given_up() -> None:
        with anyio.move_on_after(0.5):
            await receive(endless(), "x.zip", None)

    async def endless() -> AsyncIterator[bytes]:
        yield SENT
        await anyio.sleep_forever()

    with pytest.raises(HTTPException, match="507"):
        asyncio.run(receive(breaking(), "x.zip", None))
    with pytest.raises(HTTPException, match="415"):
        asyncio.run(receive(parts(b"%PDF-1.7"), "x.zip", None))
    asyncio.run(given_up())
    assert open_folder(store).names(".uploads") == []
