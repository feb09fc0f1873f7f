"""The bundle's archive and the whole store in S3, as moto serves it, through Airflow's amazon provider."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from slipway.bundles import intake
from slipway.bundles.limits import Site
from slipway.bundles.store import BundleStore
from slipway.errors import UserError
from tests.bundles.conftest import import_bundle
from tests.bundles.corpus import GOOD
from tests.bundles.s3 import running_bucket
from tests.bundles.zips import plain_zip


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """A bucket with a bundle in it."""
    with running_bucket("s3_bundles") as (uri, client):
        client.put_object(Bucket="s3-bundles", Key="in/doubler.zip", Body=plain_zip(GOOD))
        yield uri


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
    with pytest.raises(UserError, match=r"There is no file at .s3://s3_bundles@s3-bundles/in/nothing\.zip"):
        import_bundle(f"{bucket}/in/nothing.zip", site)
