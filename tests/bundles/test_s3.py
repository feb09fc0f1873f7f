"""The bundle's archive and the whole store in S3, as moto serves it, through Airflow's amazon provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import boto3
import pytest
from moto.server import ThreadedMotoServer

from slipway.bundles import intake
from slipway.bundles.limits import Site
from slipway.bundles.store import BundleStore
from slipway.errors import UserError
from tests.bundles.conftest import import_bundle
from tests.bundles.corpus import GOOD
from tests.bundles.zips import plain_zip


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket with a bundle in it, and Airflow's connection to it; Airflow keeps one client for each connection."""
    monkeypatch = pytest.MonkeyPatch()
    server = ThreadedMotoServer("127.0.0.1", 0)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    login = {"conn_type": "aws", "login": "testing", "password": "testing"}
    extra = {"endpoint_url": url, "region_name": "us-east-1"}
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", json.dumps({**login, "extra": extra}))
    client = boto3.client(
        "s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="testing", aws_secret_access_key="testing"
    )
    client.create_bucket(Bucket="models")
    client.put_object(Bucket="models", Key="in/doubler.zip", Body=plain_zip(GOOD))
    yield "s3://aws_default@models"
    server.stop()
    monkeypatch.undo()


def test_a_bundle_goes_from_s3_to_a_store_in_s3(site: Site, bucket: str) -> None:
    site = replace(site, store=f"{bucket}/store")
    stored = import_bundle(f"{bucket}/in/doubler.zip", site)
    assert (stored["name"], stored["created"]) == ("doubler", True)
    assert import_bundle(f"{bucket}/in/doubler.zip", site, run_id="again")["created"] is False
    digest = str(stored["digest"])
    assert intake.find("doubler", site=site) == digest
    with intake.materialise(digest, site=site) as bundle:
        assert (bundle.files / "artifacts" / "scale.txt").read_bytes() == GOOD["model_bundle/artifacts/scale.txt"]
        assert bundle.manifest["golden"]["output"] == [{"x": 2.5}, {"x": 5.0}]
    assert sorted(BundleStore(site.store).folder.names()) == [digest, "names"], "no staging area is left"


def test_an_object_that_is_not_there_is_named(site: Site, bucket: str) -> None:
    with pytest.raises(UserError, match=r"There is no file at .s3://aws_default@models/in/nothing\.zip"):
        import_bundle(f"{bucket}/in/nothing.zip", site)
