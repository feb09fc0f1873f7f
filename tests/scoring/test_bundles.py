"""The bundle loader and the probe: every mistake has its code and one sentence; two bundles live in one process."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from slipway_scoring import bundle_pyfunc
from slipway_scoring.bundle_pyfunc import BundleError, BundleModel
from slipway_scoring.probe import probe_bundle
from tests.scoring import models
from tests.scoring.servers import command, environment

GOOD = """
    import json

    class CustomPreprocessor:
        def load(self, artifacts):
            self.factor = json.loads((artifacts / "factor.json").read_text())

        def preprocess(self, frame):
            return frame.fillna(0)

        def predict(self, frame):
            return frame["x"] * self.factor

        def postprocess(self, result):
            return result.to_numpy()
"""
SAMPLE = json.dumps([{"x": 1.5, "y": "a"}, {"x": 2.5, "y": "b"}])


def _good(directory: Path, **files: str) -> Path:
    return models.bundle(directory, GOOD, **{"artifacts__factor_DOT_json": "2", **files})


def test_all_methods(tmp_path: Path) -> None:
    model = bundle_pyfunc._load_pyfunc(str(_good(tmp_path / "b")))
    assert model.methods == ["load", "preprocess", "predict", "postprocess"]
    assert model.predict(pd.DataFrame({"x": [1.0, None]})).tolist() == [2.0, 0.0]
    assert model.predict({"x": [3.0]}).tolist() == [6.0]


def test_only_predict(tmp_path: Path) -> None:
    code = "class CustomPreprocessor:\n    def predict(self, frame):\n        return len(frame)\n"
    model = BundleModel(models.bundle(tmp_path / "b", code))
    assert (model.methods, model.predict(pd.DataFrame({"x": [1]}))) == (["predict"], 1)


@pytest.mark.parametrize(
    ("code", "expected", "says"),
    [
        ("class Other:\n    pass\n", "missing_class", "CustomPreprocessor"),
        ("CustomPreprocessor = 5\n", "missing_class", "CustomPreprocessor"),
        ("class CustomPreprocessor:\n  def predict(self, f): 1\n" * 2, "two_classes", "custom_preprocess.py"),
        ("class CustomPreprocessor:\n  def predict(self, f:\n", "syntax_error", "line 2"),
        ("import not_there_at_all\nclass CustomPreprocessor: ...\n", "import_error", "not_there_at_all"),
        ("1 / 0\nclass CustomPreprocessor: ...\n", "import_error", "line 1"),
        ("class CustomPreprocessor:\n  pass\n", "wrong_signature", "predict"),
        ("class CustomPreprocessor:\n  def predict(self): 1\n", "wrong_signature", "predict(self, frame)"),
        ("class CustomPreprocessor:\n  def predict(self, a, b): 1\n", "wrong_signature", "predict(self, frame)"),
        (
            "class CustomPreprocessor:\n  def __init__(self, x): 1\n  def predict(self, f): 1\n",
            "wrong_signature",
            "no arguments",
        ),
        (
            "class CustomPreprocessor:\n  def load(self): 1\n  def predict(self, f): 1\n",
            "wrong_signature",
            "load(self, artifacts)",
        ),
        (
            "class CustomPreprocessor:\n  def load(self, a): open(a / 'w.pkl')\n  def predict(self, f): 1\n",
            "missing_artifact",
            "artifacts/w.pkl",
        ),
        (
            "class CustomPreprocessor:\n  def load(self, a): raise ValueError('old')\n  def predict(self, f): 1\n",
            "load_failed",
            "old, custom_preprocess.py line 2",
        ),
    ],
)
def test_mistakes_in_the_code(tmp_path: Path, code: str, expected: str, says: str) -> None:
    with pytest.raises(BundleError) as caught:
        BundleModel(models.bundle(tmp_path / "b", code))
    assert (caught.value.code, says in str(caught.value), "\n" in str(caught.value)) == (expected, True, False)


def test_no_code_at_all(tmp_path: Path) -> None:
    bundle = models.bundle(tmp_path / "b", "")
    (bundle / "code" / "custom_preprocess.py").unlink()
    with pytest.raises(BundleError) as caught:
        BundleModel(bundle)
    assert caught.value.code == "missing_module"


def test_two_bundles_with_modules_of_one_name(tmp_path: Path) -> None:
    code = """
        from helper import NAME, late

        class CustomPreprocessor:
            def predict(self, frame):
                return [NAME, late()]
    """
    found = []
    for name in ("one", "two"):
        helper = f"NAME = {name!r}\ndef late():\n    import later\n    return later.NAME\n"
        bundle = models.bundle(
            tmp_path / name, code, code__helper_DOT_py=helper, code__later_DOT_py=f"NAME = 'later {name}'\n"
        )
        found.append(BundleModel(bundle))
    frame = pd.DataFrame({"x": [1]})
    for _ in range(2):
        assert [model.predict(frame) for model in found] == [["one", "later one"], ["two", "later two"]]


def test_loading_leaves_the_bundle_as_it_was(tmp_path: Path) -> None:
    bundle = _good(tmp_path / "b", code__more_DOT_py="X = 1\n")
    before = sorted(bundle.rglob("*"))
    BundleModel(bundle).predict(pd.DataFrame({"x": [1.0]}))
    assert sorted(bundle.rglob("*")) == before


def test_the_loader_needs_nothing_of_ours(tmp_path: Path) -> None:
    script = (
        "import sys, pandas as pd; sys.path.insert(0, sys.argv[1]); import bundle_pyfunc;"
        "print(bundle_pyfunc._load_pyfunc(sys.argv[2]).predict(pd.DataFrame({'x': [2.0]})).tolist());"
        "assert not any(name.startswith('slipway') for name in sys.modules)"
    )
    directory = models.bundle_model(tmp_path / "m", GOOD)
    (directory / "data" / "artifacts" / "factor.json").write_text("3")
    done = subprocess.run(
        [sys.executable, "-I", "-c", script, str(directory / "code"), str(directory / "data")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout.strip(), done.stderr) == ("[6.0]", "")


def test_mlflow_loads_the_same_directory(tmp_path: Path) -> None:
    import mlflow.pyfunc

    directory = models.bundle_model(tmp_path / "m", GOOD, models.columns(["x"]))
    (directory / "data" / "artifacts" / "factor.json").write_text("3")
    assert mlflow.pyfunc.load_model(str(directory)).predict(pd.DataFrame({"x": [2.0]})).tolist() == [6.0]


def _probe(tmp_path: Path, *arguments: str) -> tuple[int, Any]:
    output = tmp_path / "result.json"
    done = command("probe", *arguments, "--output", str(output))
    assert output.is_file(), done.stderr
    return done.returncode, json.loads(output.read_bytes())


def test_probe_of_a_good_bundle(tmp_path: Path) -> None:
    bundle = _good(tmp_path / "b", sample_input_DOT_json=SAMPLE)
    status, report = _probe(tmp_path, "--bundle", str(bundle))
    assert (status, report["ok"], report["rows_independent"]) == (0, True, True)
    assert report["methods"] == ["load", "preprocess", "predict", "postprocess"]
    assert report["golden"] == {
        "input": {"dataframe_split": {"columns": ["x", "y"], "data": [[1.5, "a"], [2.5, "b"]]}},
        "output": [3.0, 5.0],
    }
    assert json.loads(report["signature"]["inputs"]) == [
        {"type": "double", "required": True, "name": "x"},
        {"type": "string", "required": True, "name": "y"},
    ]
    assert json.loads(report["signature"]["outputs"]) == [
        {"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1]}}
    ]
    assert report["peak_rss_bytes"] > 10**7
    assert not list(bundle.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("sample_input_DOT_json", json.dumps({"columns": ["x"], "data": [[1.5]]})),
        ("sample_input_DOT_json", json.dumps({"dataframe_split": {"columns": ["x"], "data": [[1.5]]}})),
        ("sample_input_DOT_json", json.dumps({"dataframe_records": [{"x": 1.5}]})),
        ("sample_input_DOT_csv", "x\n1.5\n"),
    ],
)
def test_sample_formats(tmp_path: Path, name: str, text: str) -> None:
    report = probe_bundle(_good(tmp_path / "b", **{name: text}))
    assert (report["golden"]["output"], report["rows_independent"]) == ([3.0], None)


def test_probe_without_a_sample(tmp_path: Path) -> None:
    report = probe_bundle(_good(tmp_path / "b"))
    assert (report["ok"], report["golden"], report["signature"]) == (True, None, None)


def test_rows_that_depend_on_each_other(tmp_path: Path) -> None:
    code = "class CustomPreprocessor:\n  def predict(self, f):\n    return (f['x'] - f['x'].mean()).to_numpy()\n"
    report = probe_bundle(models.bundle(tmp_path / "b", code, sample_input_DOT_json=SAMPLE))
    assert report["rows_independent"] is False


def test_the_signature_of_bundle_yaml_wins(tmp_path: Path) -> None:
    text = "signature:\n  inputs: [{name: x, type: float}, {name: z, type: string, required: false}]\n"
    report = probe_bundle(_good(tmp_path / "b", sample_input_DOT_json=SAMPLE, bundle_DOT_yaml=text))
    inputs = json.loads(report["signature"]["inputs"])
    assert [(item["name"], item["type"], item["required"]) for item in inputs] == [
        ("x", "float", True),
        ("z", "string", False),
    ]


@pytest.mark.parametrize(
    ("files", "code", "expected"),
    [
        ({"sample_input_DOT_json": "{"}, GOOD, "sample_invalid"),
        ({"sample_input_DOT_json": "[]"}, GOOD, "sample_invalid"),
        ({"sample_input_DOT_json": "[{}]"}, GOOD, "sample_invalid"),
        ({"sample_input_DOT_csv": "x\n"}, GOOD, "sample_invalid"),
        ({"sample_input_DOT_json": '[{"q": 1}]'}, GOOD, "sample_failed"),
        ({"sample_input_DOT_json": SAMPLE, "bundle_DOT_yaml": "signature: {inputs: 5}"}, GOOD, "signature_invalid"),
        (
            {"sample_input_DOT_json": SAMPLE, "bundle_DOT_yaml": "signature: {inputs: [{name: q, type: double}]}"},
            GOOD,
            "sample_invalid",
        ),
        (
            {"sample_input_DOT_json": SAMPLE},
            "class CustomPreprocessor:\n  def predict(self, f): return object()\n",
            "output_invalid",
        ),
    ],
)
def test_mistakes_in_the_sample(tmp_path: Path, files: dict[str, str], code: str, expected: str) -> None:
    with pytest.raises(BundleError) as caught:
        probe_bundle(models.bundle(tmp_path / "b", code, **{"artifacts__factor_DOT_json": "2", **files}))
    assert (caught.value.code, "\n" in str(caught.value)) == (expected, False), str(caught.value)


def test_probe_reports_mistakes(tmp_path: Path) -> None:
    bundle = models.bundle(tmp_path / "b", "import sys\nsys.exit(0)\nclass CustomPreprocessor: ...\n")
    status, report = _probe(tmp_path, "--bundle", str(bundle))
    assert (status, report["ok"], report["code"]) == (3, False, "load_failed")
    status, report = _probe(tmp_path, "--model", str(tmp_path))
    assert (status, report["ok"], "MLmodel" in report["message"]) == (3, False, True)


def test_probe_of_an_mlflow_model(tmp_path: Path, iris_directory: Path) -> None:
    status, report = _probe(tmp_path, "--model", str(iris_directory))
    assert (status, report["ok"], report["golden"], report["methods"]) == (0, True, None, ["predict"])


def test_environment(tmp_path: Path) -> None:
    lock = tmp_path / "lock.txt"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    lock.write_text(f"# python: {version}\n# platform: linux-x86_64\n")
    arguments = ["-m", "slipway_scoring", "environment", "--lock", str(lock), "--root", str(tmp_path / "root")]
    clients = [
        subprocess.Popen([sys.executable, *arguments], stdout=subprocess.PIPE, env=environment(), text=True)
        for _ in range(3)
    ]
    paths = {client.communicate(timeout=60)[0].strip().splitlines()[-1] for client in clients}
    assert [client.returncode for client in clients] == [0, 0, 0]
    (path,) = paths
    assert subprocess.check_output([f"{path}/bin/python", "-c", "print(1)"]) == b"1\n"
    marker = Path(path) / ".slipway-complete"
    marker.unlink()  # As after a kill -9 in the middle.
    assert command(*arguments[2:]).returncode == 0
    assert marker.is_file()


@pytest.mark.parametrize(
    ("lock", "says"),
    [(None, "cannot be read"), ("not a requirement at all!\n", "uv could not install the lock")],
)
def test_environments_that_cannot_be_made(tmp_path: Path, lock: str | None, says: str) -> None:
    path = tmp_path / "lock.txt"
    if lock is not None:
        path.write_text(lock)
    done = command("environment", "--lock", str(path), "--root", str(tmp_path / "root"))
    assert (done.returncode, says in done.stderr, done.stderr.strip().count("\n")) == (3, True, 0), done.stderr
    assert not list(tmp_path.glob("root/*/bin"))


def test_environment_that_is_made_asks_for_nothing_more(tmp_path: Path) -> None:
    """Neither uv nor the interpreter is looked for again."""
    lock = tmp_path / "lock.txt"
    lock.write_text("")
    assert command("environment", "--lock", str(lock), "--root", str(tmp_path / "root")).returncode == 0

    away = {**environment(), "SLIPWAY_UV": str(tmp_path / "no-uv"), "PATH": str(tmp_path)}
    arguments = ["environment", "--lock", str(lock), "--root", str(tmp_path / "root")]
    again = subprocess.run(
        [sys.executable, "-m", "slipway_scoring", *arguments], env=away, check=True, capture_output=True, text=True
    )
    assert Path(again.stdout.splitlines()[-1]).is_dir()


def test_nothing_is_unpickled_from_payloads() -> None:
    source = Path(bundle_pyfunc.__file__).parent
    users = {path.name for path in source.rglob("*.py") if "pickle" in path.read_text()} - {"bundle_pyfunc.py"}
    assert users == {"pickles.py", "sklearn.py", "lightgbm.py"}
