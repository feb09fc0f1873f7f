"""All spellings of a good bundle are one bundle; what is not of it does not count."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from slipway.bundles import intake
from slipway.bundles.limits import Site
from slipway.errors import UserError
from tests.bundles.corpus import GOOD
from tests.bundles.zips import Entry, entries_of, plain_zip, raw_zip

Upload = Callable[[bytes], str]
INNER = {name.removeprefix("model_bundle/"): data for name, data in GOOD.items()}
BESIDE = {(f"model_bundle/{name}" if name.startswith("artifacts/") else name): data for name, data in INNER.items()}
JUNK = {
    "__MACOSX/model_bundle/._code": b"x",
    "model_bundle/.DS_Store": b"x",
    "model_bundle/code/__pycache__/custom_preprocess.cpython-311.pyc": b"x",
    "model_bundle/code/.ipynb_checkpoints/a.py": b"not python (",
    "model_bundle/README.md": b"# read me",
    "model_bundle/artifacts/._scale.txt": b"x",
}
FOLDERS = {"model_bundle/": b"", "model_bundle/artifacts/": b"", "model_bundle/artifacts/empty/": b""}

SPELLINGS = {
    "in model_bundle": plain_zip(GOOD),
    "beside model_bundle": plain_zip(BESIDE),
    "without a folder": plain_zip(INNER),
    "in another folder": plain_zip({f"churn-v3/{name}": data for name, data in INNER.items()}),
    "in another folder, in model_bundle": plain_zip({f"churn-v3/{name}": data for name, data in GOOD.items()}),
    "in another folder, beside model_bundle": plain_zip({f"churn v3/{name}": data for name, data in BESIDE.items()}),
    "with junk": plain_zip({**JUNK, **GOOD}),
    "with folders": plain_zip({**FOLDERS, **GOOD}),
    "stored": plain_zip(GOOD, method=zipfile.ZIP_STORED),
    "in another order": plain_zip(dict(reversed(GOOD.items()))),
    "of another day": plain_zip(GOOD, date=(2031, 12, 24, 18, 0, 0)),
    "byte by byte": raw_zip(entries_of(GOOD)),
    "with other modes": raw_zip([Entry(name=name.encode(), data=data, mode=0o100777) for name, data in GOOD.items()]),
    "without UTF-8 flags": raw_zip([Entry(name=name.encode(), data=data, flags=0) for name, data in GOOD.items()]),
    "with dots in paths": raw_zip([Entry(name=b"./" + name.encode(), data=data) for name, data in GOOD.items()]),
    "behind other bytes": b"#!/bin/sh\nexit\n" + plain_zip(GOOD),
}


def digest_of(data: bytes, site: Site, upload: Upload) -> str:
    checked = intake.check(upload(data), name="doubler", run_id="run", site=site)
    intake.discard(checked, site=site)
    return str(checked["digest"])


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_is_the_same_bundle(spelling: str, site: Site, upload: Upload) -> None:
    expected = digest_of(plain_zip(GOOD), site, upload)
    assert digest_of(SPELLINGS[spelling], site, upload) == expected


def test_unicode_spelling_of_a_name_does_not_matter(site: Site, upload: Upload) -> None:
    digests = {
        digest_of(plain_zip({**GOOD, f"model_bundle/artifacts/{name}": b"x"}), site, upload)
        for name in ("caf\u00e9.txt", "cafe\u0301.txt")
    }
    assert len(digests) == 1


def test_content_matters(site: Site, upload: Upload) -> None:
    changes = [{}, {"model_bundle/artifacts/scale.txt": b"3"}, {"model_bundle/artifacts/more.txt": b""}]
    assert len({digest_of(plain_zip({**GOOD, **change}), site, upload) for change in changes}) == len(changes)


def test_normalised_files_are_those_of_the_contract(site: Site, upload: Upload) -> None:
    checked = intake.check(upload(plain_zip({**BESIDE, **JUNK})), name="doubler", run_id="run", site=site)
    root = Path(site.store.removeprefix("file://")) / ".staging" / checked["staging"] / "bundle" / "files"
    files = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    assert files == ["artifacts/scale.txt", "code/custom_preprocess.py", "requirements.txt", "sample_input.json"]


def test_bundle_without_artifacts_has_an_empty_folder_for_them(site: Site, upload: Upload) -> None:
    data = plain_zip({name: data for name, data in GOOD.items() if "artifacts" not in name})
    checked = intake.check(upload(data), name="rules", run_id="run", site=site)
    root = Path(site.store.removeprefix("file://")) / ".staging" / checked["staging"] / "bundle" / "files"
    assert list((root / "artifacts").iterdir()) == []


@pytest.mark.parametrize(
    ("given", "yaml", "file", "expected"),
    [
        ("chosen", b"name: declared\n", "file.zip", "chosen"),
        (None, b"name: declared\n", "file.zip", "declared"),
        (None, b"description: x\n", "churn-v3.ZIP", "churn-v3"),
    ],
)
def test_name_is_given_declared_or_the_files(
    given: str | None, yaml: bytes, file: str, expected: str, site: Site, tmp_path: Path
) -> None:
    archive = tmp_path / file
    archive.write_bytes(plain_zip({**GOOD, "model_bundle/bundle.yaml": yaml}))
    checked = intake.check(archive.as_uri(), name=given, run_id="run", site=site)
    assert checked["name"] == expected


def test_file_name_that_is_no_model_name_is_refused(site: Site, tmp_path: Path) -> None:
    archive = tmp_path / "my model (1).zip"
    archive.write_bytes(plain_zip(GOOD))
    with pytest.raises(
        UserError, match="comes from the archive's file name, so give another with the parameter 'name'"
    ):
        intake.check(str(archive), run_id="run", site=site)


@pytest.mark.parametrize(
    ("location", "said"),
    [
        ("{folder}/none.zip", "There is no file at"),
        ("file://{folder}/none.zip", "There is no file at"),
        ("{folder}", "is not a file"),
        ("/dev/zero", "is not a file"),
        ("{folder}/pipe", "is not a file"),
        ("relative.zip", "is a relative path"),
        ("nonsense://bucket/x.zip", "has a scheme that Airflow cannot read"),
    ],
)
def test_location_without_an_archive_is_refused(location: str, said: str, site: Site, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match=said):
        intake.check(location.format(folder=tmp_path), name="x", run_id="run", site=site)
