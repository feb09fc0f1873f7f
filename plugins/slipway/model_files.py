"""Make a served model directory out of a bundle: a plain MLflow pyfunc, and what the scoring server needs beside it.

The loader is a module that is copied into the model (`loader_module`, MLflow's oldest contract), not a pickle of
our classes, so that every MLflow tool loads the model with nothing of ours installed. Nothing of the bundle is
imported here.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipway.domain import ModelManifest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["add_slipway_files", "write_model"]

LOADER_MODULE = "bundle_pyfunc"


def write_model(
    path: Path, bundle: Path, manifest: ModelManifest, *, lock: str, requirements: list[str], loader: Path
) -> None:
    """Write the model directory `path` for the bundle in the folder `bundle`.

    :param manifest: what was found out about the bundle at import.
    :param lock: text of the uv lock of its environment.
    :param requirements: the bundle's own requirements, pinned as in the lock; MLflow adds itself.
    :param loader: the file of the loader module, which goes into the model.
    """
    # MLflow would look for a uv project in the current folder and take that for the model's.
    os.environ["MLFLOW_UV_AUTO_DETECT"] = "false"
    import mlflow.pyfunc
    from mlflow.models import ModelSignature

    signature = manifest.signature.model_dump() if manifest.signature else None
    with tempfile.TemporaryDirectory() as folder:
        # MLflow copies the data under its own name: let that be the same for every bundle.
        data = Path(folder) / "bundle"
        data.symlink_to(bundle.resolve(), target_is_directory=True)
        mlflow.pyfunc.save_model(
            path=str(path),
            loader_module=LOADER_MODULE,
            data_path=str(data),
            code_paths=[str(loader)],
            signature=ModelSignature.from_dict(signature) if signature else None,
            input_example=_example_frame(manifest) if signature else None,
            pip_requirements=requirements,
            metadata={"slipway": {"bundle_digest": manifest.bundle_digest, "lock_digest": manifest.lock_digest}},
        )
    add_slipway_files(path, manifest, lock)


def add_slipway_files(path: Path, manifest: ModelManifest, lock: str) -> None:
    """Write `slipway/manifest.json` and `slipway/requirements.lock` into the model directory `path`."""
    folder = path / "slipway"
    folder.mkdir(exist_ok=True)
    (folder / "requirements.lock").write_text(lock)
    (folder / "manifest.json").write_text(json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True))


def _example_frame(manifest: ModelManifest) -> pd.DataFrame | None:
    """Return the golden input as a frame, which MLflow shows and serves as the model's input example."""
    import pandas as pd

    if manifest.golden is None or "dataframe_split" not in manifest.golden.input:
        return None
    split: dict[str, Any] = manifest.golden.input["dataframe_split"]
    return pd.DataFrame(split["data"], columns=split["columns"])
