"""Every kind of bad bundle is refused in its one sentence, and leaves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slipway.bundles import intake
from slipway.bundles.limits import Site
from slipway.errors import UserError
from tests.bundles.conftest import files_below, import_bundle
from tests.bundles.corpus import CORPUS, DOCUMENTED, GOOD, UNDOCUMENTED, Bad
from tests.bundles.zips import plain_zip

Upload = Callable[[bytes], str]


@pytest.mark.parametrize("bad", CORPUS, ids=lambda bad: bad.kind)
def test_bad_bundle_is_refused(bad: Bad, site: Site, upload: Upload, canary: Path) -> None:
    if bad.kind == "endless_load":
        site = replace(site, limits=replace(site.limits, probe_seconds=5))
    with pytest.raises(UserError) as refused:
        import_bundle(upload(bad.build()), site)
    message = str(refused.value)
    assert bad.matches(message), message
    assert "\n" not in message
    assert message.endswith(".")
    assert len(message) < 1000
    assert files_below(site) == []
    assert not canary.exists()


def test_table_and_corpus_agree() -> None:
    assert UNDOCUMENTED == ()
    assert {bad.kind for bad in CORPUS} == set(DOCUMENTED)
    assert len(CORPUS) >= 40


def test_good_bundle_is_taken(site: Site, upload: Upload, canary: Path) -> None:
    stored = import_bundle(upload(plain_zip(GOOD)), site, name="doubler")
    assert stored["created"]
    assert not canary.exists()
    with intake.materialise(str(stored["digest"]), site=site) as bundle:
        assert bundle.manifest["golden"]["input"]["dataframe_split"]["data"] == [[1.0], [2.0]]
        assert bundle.manifest["rows_independent"] is True
        assert bundle.manifest["probe"]["isolated"] is True
        assert (bundle.files / "artifacts" / "scale.txt").read_bytes() == b"2.5"
        assert bundle.requirements[0].startswith("numpy==")
        assert bundle.lock.startswith("# python: 3.")
