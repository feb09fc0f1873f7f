"""The intake as its callers see it: light to import, small in memory, and the way in for MLflow's models too."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import joblib
import numpy as np
import pytest

from slipway.bundles import intake
from slipway.bundles.limits import Limits, Site
from slipway.errors import UserError
from tests.bundles import pickles
from tests.bundles.conftest import files_below, import_bundle
from tests.bundles.corpus import GOOD
from tests.bundles.zips import plain_zip

ROOT = Path(__file__).resolve().parents[2]
MIB = 1024**2


def run_python(program: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "plugins")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_importing_it_imports_nothing_heavy() -> None:
    heavy = ["airflow", "azure", "boto3", "docker", "joblib", "mlflow", "numpy", "pandas", "picklescan", "pyspark"]
    program = f"import sys; from slipway.bundles import intake; print(sorted(set({heavy}) & set(sys.modules)))"
    assert run_python(program) == "[]\n"


def test_large_bundle_is_checked_in_little_memory(site: Site, tmp_path: Path) -> None:
    archive = tmp_path / "large.zip"
    array = np.random.default_rng(0).normal(size=100 * MIB // 8)
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as out:
        for name, data in GOOD.items():
            out.writestr(name, data)
        with out.open("model_bundle/artifacts/a.pkl", "w") as file:
            pickle.dump(array, file, protocol=4)
        with out.open("model_bundle/artifacts/words.pkl", "w") as file:
            pickle.dump({f"word-{number}": number for number in range(1_000_000)}, file)
        packed = io.BytesIO()
        joblib.dump(array, packed, compress=("zlib", 1))
        out.writestr("model_bundle/artifacts/b.joblib", packed.getvalue())
    program = """
import json, re, sys
from pathlib import Path
from slipway.bundles import intake
from slipway.bundles.limits import Site
site = Site(store=sys.argv[2], environments_dir=Path("/nowhere"), scoring_home=Path("/nowhere"), python=sys.executable)
checked = intake.check(sys.argv[1], name="large", run_id="run", site=site)
# ru_maxrss has the parent's share in it.
peak = re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]
print(json.dumps([checked["total_bytes"], int(peak) * 1024]))
"""
    total, peak = json.loads(run_python(program, archive, site.store))
    assert total > 200 * MIB
    assert peak < 150 * MIB, f"{peak / MIB:.0f} MiB"


def test_settings_make_a_site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AIRFLOW__SLIPWAY__BUNDLE_STORE", f"file://{tmp_path}")
    monkeypatch.setenv("AIRFLOW__SLIPWAY__MAX_FILES", "7")
    monkeypatch.setenv("AIRFLOW__SLIPWAY__PROBE_TIMEOUT_SECONDS", "11")
    site = Site.from_settings()
    assert (site.store, site.limits.files, site.limits.probe_seconds) == (f"file://{tmp_path}", 7, 11)
    assert site.limits.lock_seconds == Limits().lock_seconds


@pytest.mark.parametrize(
    ("name", "files", "said"),
    [
        ("../evil", {}, r"Model name '\.\./evil' is not allowed"),
        (None, {"model_bundle/bundle.yaml": b"name: [1]"}, "bundle.yaml is wrong at 'name'"),
        (None, {"model_bundle/bundle.yaml": b"- a\n"}, "does not hold fields and values"),
        (None, {"model_bundle/bundle.yaml": b"a: {"}, "is not plain YAML"),
        (None, {"model_bundle/bundle.yaml": b"name: a\nname: b\n"}, "a key stands twice on line 1"),
        (None, {"model_bundle/bundle.yaml": b"!!python/object/apply:os.system [ls]"}, "is not plain YAML"),
        (None, {"model_bundle/sample_input.json": b"[1]"}, "an element that is not a record"),
        (
            None,
            {"model_bundle/sample_input.json": b'{"data": [[1]], "columns": ["a", "b"]}'},
            "another number of values",
        ),
        (None, {"model_bundle/sample_input.json": b"[" * 100_000}, "nested too deeply"),
        (None, {"model_bundle/sample_input.json": b"\xff"}, "not UTF-8"),
    ],
)
def test_wrong_declarations_are_refused(
    name: str | None, files: dict[str, bytes], said: str, site: Site, tmp_path: Path
) -> None:
    archive = tmp_path / "doubler.zip"
    archive.write_bytes(plain_zip({**GOOD, **files}))
    with pytest.raises(UserError, match=said):
        intake.check(str(archive), name=name, run_id="run", site=site)
    assert files_below(site) == []


@pytest.mark.parametrize(
    "sample",
    [
        b'{"dataframe_split": {"columns": ["x"], "index": [0], "data": [[1.0]]}}',
        b'{"dataframe_records": [{"x": 1.0}]}',
        b'[{"x": 1.0}, {"x": 2.0}]',
        b'\xef\xbb\xbf{"columns": ["x"], "data": [[1.0]]}',
    ],
)
def test_all_forms_of_samples_are_taken(sample: bytes, site: Site, tmp_path: Path) -> None:
    archive = tmp_path / "doubler.zip"
    archive.write_bytes(plain_zip({**GOOD, "model_bundle/sample_input.json": sample}))
    assert intake.check(str(archive), run_id="run", site=site)["sample"] == "sample_input.json"


def test_declared_signature_and_batching_reach_the_manifest(site: Site, tmp_path: Path) -> None:
    declared = b"""
name: doubler
description: Doubles, and more.
signature:
  inputs: [{name: x, type: double}]
batching: {enabled: true, max_size: 64, max_delay_ms: 2.5}
"""
    archive = tmp_path / "any.zip"
    archive.write_bytes(plain_zip({**GOOD, "model_bundle/bundle.yaml": declared}))
    stored = import_bundle(str(archive), site)
    with intake.materialise(stored["digest"], site=site) as bundle:
        manifest = bundle.manifest
    assert stored["name"] == manifest["name"] == "doubler"
    assert manifest["description"] == "Doubles, and more."
    assert json.loads(manifest["signature"]["inputs"]) == [{"name": "x", "type": "double", "required": True}]
    assert manifest["batching"] == {"enabled": True, "max_size": 64, "max_delay_ms": 2.5}
    from slipway.domain import ModelManifest

    assert ModelManifest.model_validate(manifest).golden is not None


def test_probe_cannot_read_what_is_masked(site: Site, tmp_path: Path) -> None:
    # The store and the environments are inside of the masked home: only this bundle and its environment are seen.
    spy = b"""
import os
class CustomPreprocessor:
    def predict(self, frame):
        return [sum(len(files) for _, _, files in os.walk(HOME))] * len(frame)
""".replace(b"HOME", repr(str(tmp_path)).encode())
    (tmp_path / "airflow.cfg").write_text("secret")
    files = {**GOOD, "model_bundle/code/custom_preprocess.py": spy}
    (tmp_path / "doubler.zip").write_bytes(plain_zip(files))
    stored = import_bundle(str(tmp_path / "doubler.zip"), replace(site, masked_dirs=(tmp_path,)))
    with intake.materialise(stored["digest"], site=site) as bundle:
        assert bundle.manifest["golden"]["output"] == [len(files)] * 2


def test_model_that_mlflow_made_is_taken_in(site: Site, tmp_path: Path) -> None:
    import mlflow.sklearn
    import pandas as pd
    from sklearn.linear_model import LinearRegression

    frame = pd.DataFrame({"x": [1.0, 2.0, 3.0]})
    mlflow.sklearn.save_model(
        LinearRegression().fit(frame, [2.0, 4.0, 6.0]), tmp_path / "model", input_example=frame,
        serialization_format="cloudpickle", pip_requirements=["scikit-learn", "cloudpickle"],
    )  # fmt: skip
    digest = intake.take_model(tmp_path / "model", name="made", source_uri="models:/made/1", run_id="run", site=site)
    assert intake.find("made", site=site) == digest
    with intake.materialise(digest, site=site) as bundle:
        assert bundle.manifest["kind"] == "model"
        assert bundle.manifest["golden"]["output"] == pytest.approx([2.0, 4.0, 6.0])
        assert {path.name for path in bundle.files.iterdir()} >= {"MLmodel", "model.pkl"}
        assert not (bundle.files / "artifacts").exists()
    (tmp_path / "model" / "model.pkl").write_bytes(pickles.command())
    with pytest.raises(UserError, match=r"refers to 'posix\.system'"):
        intake.take_model(tmp_path / "model", name="evil", source_uri="models:/evil/1", run_id="two", site=site)
    with pytest.raises(UserError, match="has no file MLmodel"):
        intake.take_model(tmp_path, name="none", source_uri="models:/none/1", run_id="three", site=site)
    assert not any(name.startswith(".staging") for name in files_below(site))
