"""Takes in a model that MLflow made elsewhere: its directory goes the way of a bundle."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

from slipway import naming
from slipway.bundles import scan, unpack
from slipway.bundles.limits import Site
from slipway.bundles.names import clean_name
from slipway.bundles.results import Checked
from slipway.bundles.staging import CHECK_NOTES, Staging
from slipway.bundles.store import BundleStore
from slipway.bundles.wording import shown
from slipway.errors import UserError

__all__ = ["check_model"]

# MLflow saves a Python function by cloudpickle, whose own machinery makes functions and classes. They run in the
# probe's sandbox and the model's own environment only.
CLOUDPICKLE = frozenset(
    {
        "_operator.*",
        "builtins.getattr",
        "cloudpickle.cloudpickle.*",
        "cloudpickle.cloudpickle_fast.*",
        "functools.*",
        "operator.*",
        "types.*",
    }
)


def check_model(model: Path, *, name: str, source_uri: str, run_id: str, site: Site) -> Checked:
    """Check an MLflow model directory and copy it to the store's staging area, as `intake.check` does with a bundle.

    :raises UserError: if it is not one, or a pickle in it is refused.
    """
    naming.check_model(name)
    for needed in ("MLmodel", "requirements.txt"):
        if not (model / needed).is_file():
            raise UserError(f"Model {shown(source_uri)} has no file {needed}: log it with MLflow 2 or newer.")
    store = BundleStore(site.store)
    limits = replace(site.limits, allowed_globals=site.limits.allowed_globals | CLOUDPICKLE)
    with Staging.unpacking(store, run_id) as (staging, folder):
        records = []
        for file in sorted(path for path in model.rglob("*") if path.is_file() and not path.is_symlink()):
            path = clean_name(file.relative_to(model).as_posix())
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / path)
            records.append(unpack.record_of(folder / path, path))
        found = scan.scan_files(folder, [record.path for record in records], limits)
        digest = unpack.bundle_digest(records)
        checked = Checked(
            digest=digest, name=name, description=None, source_uri=source_uri, run_id=run_id, kind="model",
            known=store.manifest(digest) is not None, staging=staging.key, files=len(records),
            total_bytes=sum(record.size for record in records), methods=["predict"], sample=None,
        )  # fmt: skip
        notes = {"files": [asdict(record) for record in records], "pickle_globals": found, "bundle_yaml": {}}
        staging.write(CHECK_NOTES, json.dumps(notes).encode())
    return checked
