"""The sample bundles, and how to score one in this process."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd

from slipway_scoring import bundle_pyfunc

ROOT = Path(__file__).resolve().parents[2] / "include" / "model_bundles"
NAMES = ("breast-cancer", "diabetes-boosted", "wine-no-sample", "skeleton")


def load_script(name: str) -> ModuleType:
    """A script beside the bundles, as a module."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location(name, ROOT / f"{name}.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def predict(bundle: Path, frame: pd.DataFrame) -> Any:
    """What the bundle answers, by the very loader that MLflow and the scoring server use."""
    return bundle_pyfunc._load_pyfunc(str(bundle)).predict(frame)


def sample(bundle: Path) -> pd.DataFrame:
    split = json.loads((bundle / "sample_input.json").read_text())["dataframe_split"]
    return pd.DataFrame(split["data"], columns=split["columns"])
