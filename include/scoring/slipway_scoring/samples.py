"""Sample inputs: those in a bundle, and the input example of an MLflow model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

from slipway_scoring.bundle_pyfunc import BundleError
from slipway_scoring.codecs import json_in
from slipway_scoring.errors import BadPayload
from slipway_scoring.tables import TableReader

_ANY_TABLE = TableReader(None)


def of_bundle(bundle: Path) -> pd.DataFrame | None:
    """The table in `sample_input.json` or `sample_input.csv`; None if the bundle has neither.

    Raises:
        BundleError: `sample_invalid`: there is one, but it holds no rows.
    """
    for name, read in (("sample_input.json", _read_json), ("sample_input.csv", _read_csv)):
        path = bundle / name
        if not path.is_file():
            continue
        try:
            frame = read(path.read_bytes())
        except (BadPayload, ValueError, UnicodeDecodeError) as error:
            raise BundleError(
                "sample_invalid",
                f"{name} cannot be read as a table ({' '.join(str(error).split())[:300]}): write a list of records, "
                "a pandas split object or CSV with a header.",
            ) from error
        if frame.empty:
            raise BundleError("sample_invalid", f"{name} has no rows: write at least one row that the model can score.")
        return frame
    return None


def _read_json(body: bytes) -> pd.DataFrame:
    document = json_in.loads(body)
    if isinstance(document, list):
        document = {"dataframe_records": document}
    elif isinstance(document, dict) and "data" in document:
        document = {"dataframe_split": document}
    payload, _ = json_in.decode(orjson.dumps(document), _ANY_TABLE)
    joined = payload.join([])
    return joined if isinstance(joined, pd.DataFrame) else pd.DataFrame(joined)


def _read_csv(body: bytes) -> pd.DataFrame:
    import io

    return pd.read_csv(io.BytesIO(body))


def of_model(directory: Path, description: Mapping[str, Any]) -> dict[str, Any] | None:
    """The input example that MLflow saved with a model, as a body for /invocations; None if there is none."""
    info = description.get("saved_input_example_info") or {}
    serving = info.get("serving_input_path")
    if serving and (directory / serving).is_file():
        document = json_in.loads((directory / serving).read_bytes())
        return document if isinstance(document, dict) else None
    example = info.get("artifact_path")
    if not example or not (directory / example).is_file() or info.get("type") != "dataframe":
        return None
    table = json_in.loads((directory / example).read_bytes())
    return {"dataframe_split": table} if info.get("pandas_orient", "split") == "split" else None
