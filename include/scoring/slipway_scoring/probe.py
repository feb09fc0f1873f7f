"""The command `probe`: load a bundle or model once, predict its sample, and report what was found.

It runs the user's code, so whoever calls it puts it into a sandbox: this process has no more rights than that code.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from slipway_scoring import inference, samples
from slipway_scoring.bundle_pyfunc import BundleError, BundleModel, describe
from slipway_scoring.codecs import json_in, json_out
from slipway_scoring.errors import BadPayload
from slipway_scoring.model import ModelLoadError
from slipway_scoring.payload import Payload
from slipway_scoring.schema import Signature
from slipway_scoring.tables import TableReader

USER_MISTAKE = 3
MAX_ROWS = 32
"""Rows of the sample that are predicted; also the rows that are compared alone and together."""
_TOLERANCE = 1e-6

Report = dict[str, Any]
Predict = Callable[[Any], Any]


def main(arguments: list[str]) -> int:
    """`probe (--bundle DIR | --model DIR) --output FILE`: 0 if all is well, 3 for a mistake of the user's."""
    parser = argparse.ArgumentParser(prog="slipway_scoring probe", description=(__doc__ or "").split("\n")[0])
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--bundle", type=Path, help="a normalised bundle directory")
    what.add_argument("--model", type=Path, help="an MLflow model directory")
    parser.add_argument("--output", type=Path, required=True, help="the JSON file to write")
    options = parser.parse_args(arguments)
    sys.dont_write_bytecode = True
    try:
        report = probe_bundle(options.bundle.resolve()) if options.bundle else probe_model(options.model.resolve())
    except (BundleError, ModelLoadError) as error:
        report = {"ok": False, "code": getattr(error, "code", "load_failed"), "message": str(error)}
    except SystemExit:
        report = {
            "ok": False,
            "code": "load_failed",
            "message": "The model's code ended the process with sys.exit: it is imported, so remove that call.",
        }
    _write(options.output, report)
    return 0 if report["ok"] else USER_MISTAKE


def probe_bundle(bundle: Path) -> Report:
    """Probe a normalised bundle.

    Raises:
        BundleError: any mistake in it.
    """
    started = time.perf_counter()
    model = BundleModel(bundle)
    load_seconds = time.perf_counter() - started
    wish = _declared_signature(bundle)
    frame = samples.of_bundle(bundle)
    if frame is None:
        return _report(model.methods, load_seconds, signature=wish)
    frame = frame.head(MAX_ROWS)
    predict: Predict = model.predict
    inputs = (wish or {}).get("inputs") or inference.infer(frame, [])["inputs"]
    sample = {"dataframe_split": json.loads(frame.to_json(orient="split", date_format="iso"))}
    sample["dataframe_split"].pop("index", None)
    payload = _payload(sample, Signature.parse({"inputs": inputs}))
    output, predict_seconds = _timed(predict, payload, bundle / "code")
    found = inference.infer(frame, output)
    signature = {"inputs": inputs, "outputs": (wish or {}).get("outputs") or found["outputs"], "params": None}
    return _report(
        model.methods,
        load_seconds,
        predict_seconds=predict_seconds,
        golden={"input": sample, "output": _as_answered(output)},
        signature=signature,
        rows_independent=_rows_independent(predict, payload, output),
    )


def probe_model(directory: Path) -> Report:
    """Probe an MLflow model directory; its sample is its input example.

    Raises:
        ModelLoadError, BundleError: it cannot be loaded, or cannot predict its own example.
    """
    from slipway_scoring import loaders

    started = time.perf_counter()
    model = loaders.load(directory)
    load_seconds = time.perf_counter() - started
    description = loaders.read_mlmodel(directory)
    saved = description.get("signature")
    signature = {part: saved.get(part) for part in ("inputs", "outputs", "params")} if saved else None
    sample = samples.of_model(directory, description)
    if sample is None:
        return _report(["predict"], load_seconds, signature=signature)
    payload = _payload(sample, model.signature, raw_inputs=model.takes_raw_inputs)

    def predict(data: Any) -> Any:
        return model.call(data, None)

    output, predict_seconds = _timed(predict, payload, directory)
    return _report(
        ["predict"],
        load_seconds,
        predict_seconds=predict_seconds,
        golden={"input": sample, "output": _as_answered(output)},
        signature=signature,
        rows_independent=_rows_independent(predict, payload, output),
    )


def _report(methods: list[str], load_seconds: float, **found: Any) -> Report:
    return {
        "ok": True,
        "python": platform.python_version(),
        "methods": methods,
        "load_seconds": round(load_seconds, 4),
        "predict_seconds": None,
        "golden": None,
        "signature": None,
        "rows_independent": None,
        **found,
        # Linux counts kilobytes.
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def _declared_signature(bundle: Path) -> dict[str, str | None] | None:
    path = bundle / "bundle.yaml"
    if not path.is_file():
        return None
    import yaml

    try:
        document = yaml.safe_load(path.read_bytes()) or {}
        wish = document.get("signature")
        if not wish:
            return None
        signature = inference.declared(wish)
        Signature.parse(signature)
    except (yaml.YAMLError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise BundleError(
            "signature_invalid",
            f"The signature in bundle.yaml cannot be read ({' '.join(str(error).split())[:200]}): write "
            "inputs: [{name: …, type: double}, …] with MLflow's type names.",
        ) from error
    return signature


def _payload(sample: Mapping[str, Any], signature: Signature, *, raw_inputs: bool = False) -> Payload:
    try:
        payload, _ = json_in.decode(json.dumps(sample).encode(), TableReader(signature.inputs), raw_inputs=raw_inputs)
    except BadPayload as error:
        raise BundleError("sample_invalid", f"The sample input does not fit the signature: {error}") from error
    return payload


def _timed(predict: Predict, payload: Payload, code: Path) -> tuple[Any, float]:
    started = time.perf_counter()
    try:
        output = predict(payload.join([]))
    except Exception as error:
        raise BundleError(
            "sample_failed",
            f"The model cannot predict its own sample input ({describe(error, code)}): correct the sample or the code.",
        ) from error
    return output, round(time.perf_counter() - started, 6)


def _as_answered(output: Any) -> Any:
    """What `/invocations` answers under `predictions`."""
    try:
        return json.loads(json_out.dumps(output))
    except json_out.UnwritableOutputError as error:
        raise BundleError("output_invalid", str(error)) from error


def _rows_independent(predict: Predict, payload: Payload, together: Any) -> bool | None:
    """Whether each row alone gives what all together gave; None if one row, or no table, cannot tell."""
    rows = min(payload.rows, MAX_ROWS)
    data = payload.join([])
    if rows < 2 or not isinstance(data, pd.DataFrame | np.ndarray):
        return None
    expected = _as_answered(together)
    if not isinstance(expected, list) or len(expected) != payload.rows:
        return False
    for number in range(rows):
        part = data.iloc[number : number + 1] if isinstance(data, pd.DataFrame) else data[number : number + 1]
        if isinstance(part, pd.DataFrame):
            part = part.reset_index(drop=True)
        try:
            alone = _as_answered(predict(part))
        except Exception:  # noqa: BLE001 -- a model that cannot take one row has no independent rows
            return False
        if not isinstance(alone, list) or len(alone) != 1 or not _same(alone[0], expected[number]):
            return False
    return True


def _same(one: Any, other: Any) -> bool:
    """Equal, numbers up to rounding: matrix products of one row and of many add up in different orders."""
    if isinstance(one, float) and isinstance(other, float | int) and not isinstance(other, bool):
        return abs(one - other) <= _TOLERANCE * max(1.0, abs(one), abs(other))
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_same, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return bool(one == other)


def _write(path: Path, report: Report) -> None:
    partial = path.with_name(path.name + ".partial")
    with partial.open("w", encoding="utf-8") as file:
        json.dump(report, file, ensure_ascii=False)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
