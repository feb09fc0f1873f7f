"""The model that a server serves: how to call it, and what is known about it.

A served directory is an MLflow model directory, perhaps with `slipway/manifest.json`, which holds what the import of a
bundle found out: the signature, the golden sample, whether rows are independent.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slipway_scoring.codecs.json_in import decode
from slipway_scoring.errors import BadPayload
from slipway_scoring.payload import Block, Payload
from slipway_scoring.schema import Signature
from slipway_scoring.tables import TableReader


class ModelLoadError(Exception):
    """The model cannot be served, in one sentence."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A loaded model of any flavour.

    Args:
        call: `call(data, params)` predicts; data is what the signature says (a DataFrame, an array, a dict of them).
        bare_arrays: numeric tables may come as an array without names, which spares making a DataFrame.
        takes_raw_inputs: the model parses JSON's `inputs` by its own type hints.
        rows_independent: known to be so by what the model is; None if only a test can tell.
    """

    call: Callable[[Any, Mapping[str, Any] | None], Any]
    bare_arrays: bool = False
    takes_raw_inputs: bool = False
    rows_independent: bool | None = None


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How many requests may share one prediction. `max_delay` is in seconds, `max_size` in rows."""

    enabled: bool
    max_size: int = 256
    max_delay: float = 0.002


@dataclass(frozen=True, slots=True)
class Golden:
    """The golden sample: a JSON body for /invocations, and what it answers under `predictions` (None: not known)."""

    input: Mapping[str, Any]
    output: Any = None


class Model:
    """One model with its identity, its signature and its golden sample."""

    def __init__(
        self,
        predictor: Predictor,
        signature: Signature,
        manifest: Mapping[str, Any],
        *,
        flavor: str,
        golden: Golden | None,
    ) -> None:
        self._predictor = predictor
        self.signature = signature
        self.flavor = flavor
        self.name = os.environ.get("SLIPWAY_MODEL_NAME") or manifest.get("name") or "model"
        self.version = os.environ.get("SLIPWAY_MODEL_VERSION") or "1"
        self.bundle_digest: str | None = manifest.get("bundle_digest")
        self.reader = TableReader(signature.inputs)
        self.batching = _batch_policy(manifest, predictor)
        self.golden = golden

    @property
    def takes_raw_inputs(self) -> bool:
        """Whether JSON's `inputs` go to the model as they are."""
        return self._predictor.takes_raw_inputs

    def call(self, data: Any, params: Mapping[str, Any] | None) -> Any:
        """Predict for data in the model's own form. Raises whatever the model raises."""
        return self._predictor.call(data, params)

    def predict(self, payloads: Sequence[Payload], params: Mapping[str, Any] | None = None) -> Any:
        """Predict for all payloads together; they have one layout. Raises whatever the model raises."""
        first, *others = payloads
        if self._predictor.bare_arrays and isinstance(first, Block):
            return self._predictor.call(first.stack([other for other in others if isinstance(other, Block)]), params)
        return self._predictor.call(first.join(others), params)

    def rehearse(self) -> Any:
        """Predict the golden sample; None if there is none. Raises whatever the model raises."""
        if self.golden is None:
            return None
        payload, params = decode(json.dumps(self.golden.input).encode(), self.reader, raw_inputs=self.takes_raw_inputs)
        return self.predict([payload], check_params(self.signature, params))


def _batch_policy(manifest: Mapping[str, Any], predictor: Predictor) -> BatchPolicy:
    """Batching is on where rows are known to be independent, or where `bundle.yaml` says so."""
    wish = manifest.get("batching") or {}
    known = predictor.rows_independent
    independent = manifest.get("rows_independent") if known is None else known
    default = BatchPolicy(enabled=False)
    return BatchPolicy(
        enabled=bool(wish.get("enabled", independent)),
        max_size=int(wish.get("max_size", default.max_size)),
        max_delay=float(wish.get("max_delay_ms", default.max_delay * 1000)) / 1000,
    )


def read_manifest(directory: Path) -> dict[str, Any]:
    """`slipway/manifest.json`, or nothing for a plain MLflow model."""
    path = directory / "slipway" / "manifest.json"
    if not path.is_file():
        return {}
    try:
        manifest = json.loads(path.read_bytes())
    except ValueError as error:
        raise ModelLoadError(f"{path} is not valid JSON ({error}): register the model again.") from error
    if not isinstance(manifest, dict):
        raise ModelLoadError(f"{path} is not a JSON object: register the model again.")
    return manifest


_PARAM_TYPES: dict[str, tuple[type, ...]] = {
    "boolean": (bool,),
    "integer": (int,),
    "long": (int,),
    "float": (int, float),
    "double": (int, float),
    "string": (str,),
    "datetime": (str,),
    "object": (dict,),
}


def check_params(signature: Signature, params: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """MLflow's rules for `params`: unknown ones are dropped, missing ones get their default, types are checked.

    Raises:
        BadPayload: a value is not of its declared type.
    """
    if signature.params is None:
        return None
    given = params or {}
    checked: dict[str, Any] = {}
    for param in signature.params:
        if param.name not in given:
            checked[param.name] = param.default
            continue
        value = given[param.name]
        values = value if param.shape is not None and isinstance(value, list) else [value]
        kinds = _PARAM_TYPES.get(param.kind)
        wrong = kinds is not None and any(
            not isinstance(item, kinds) or (isinstance(item, bool) and bool not in kinds) for item in values
        )
        if value is not None and (wrong or (param.shape is not None and not isinstance(value, list))):
            what = f"a list of {param.kind}" if param.shape is not None else f"one {param.kind}"
            raise BadPayload(f"Parameter '{param.name}' must be {what}: send {what}.")
        checked[param.name] = float(value) if kinds == (int, float) and isinstance(value, int) else value
    return checked
