"""`POST /predict`: a bare pandas table, `orient="split"`, as `frame.to_json(orient="split")` writes it."""

from __future__ import annotations

from slipway_scoring.codecs import json_in, negotiation
from slipway_scoring.dialects import mlflow
from slipway_scoring.http import Handler, Route
from slipway_scoring.scorer import Scorer


def routes(scorer: Scorer) -> list[Route]:
    """The routes of this dialect."""
    return [Route("/predict", {"POST": _predict(scorer)}, scores=True)]


def _predict(scorer: Scorer) -> Handler:
    reader, raw_inputs = scorer.model.reader, scorer.model.takes_raw_inputs

    def json(body: bytes) -> negotiation.Decoded:
        document = json_in.loads(body)
        if isinstance(document, dict) and "data" in document:
            return json_in.split(document, reader), None
        return json_in.decode(body, reader, raw_inputs=raw_inputs)

    return mlflow.tables(scorer, json)
