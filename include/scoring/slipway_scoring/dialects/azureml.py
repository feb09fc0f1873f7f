"""AzureML's inference server: `POST /score`, liveness at `/`, readiness at `/ready`
(https://learn.microsoft.com/azure/machine-learning/how-to-deploy-custom-container).

Besides MLflow's shapes `/score` takes the one that AzureML's own MLflow deployments take, `{"input_data": …}`, and
answers that as they do, with the bare predictions
(https://learn.microsoft.com/azure/machine-learning/how-to-deploy-mlflow-models).
"""

from __future__ import annotations

from typing import Any

import orjson

from slipway_scoring.codecs import json_in, json_out, negotiation
from slipway_scoring.dialects import mlflow
from slipway_scoring.errors import BadPayload
from slipway_scoring.http import Handler, Request, Response, Route
from slipway_scoring.scorer import Scorer, written


def routes(scorer: Scorer) -> list[Route]:
    """The routes of this dialect."""
    return [
        Route("/", {"GET": _alive}, open=True),
        Route("/ready", {"GET": mlflow.health_check(scorer)}, open=True),
        Route("/score", {"POST": _score(scorer)}, scores=True),
    ]


async def _alive(request: Request) -> Response:  # noqa: ARG001 -- every handler takes one
    return Response(b'{"status":"alive"}')


def _score(scorer: Scorer) -> Handler:
    plain = mlflow.invocations(scorer)
    reader = scorer.model.reader

    def azure_json(body: bytes) -> negotiation.Decoded:
        document = json_in.loads(body)
        data, params = document["input_data"], document.get("params")
        if params is not None and not isinstance(params, dict):
            raise BadPayload("'params' is not an object: send {name: value, …}.")
        if isinstance(data, dict) and "data" in data:
            return json_in.split(data, reader), params
        return reader.values(data), params

    async def handle(request: Request) -> Response:
        if not _has_input_data(request.body):
            return await plain(request)
        payload, params = negotiation.guarded(azure_json, request.body)
        result = await scorer.score(payload, params)
        return Response(written(json_out.dumps, result), rows=payload.rows)

    return handle


def _has_input_data(body: bytes) -> bool:
    if b'"input_data"' not in body:
        return False
    try:
        document: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(document, dict) and "input_data" in document
