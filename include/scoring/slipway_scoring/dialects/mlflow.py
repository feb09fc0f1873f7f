"""MLflow's scoring protocol (https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally/), which SageMaker's
containers speak too: `POST /invocations`, `GET /ping`, `/health`, `/version`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from slipway_scoring import __version__
from slipway_scoring.codecs import json_in, negotiation
from slipway_scoring.http import Handler, Request, Response, Route
from slipway_scoring.scorer import Scorer, written


def routes(scorer: Scorer) -> list[Route]:
    """The routes of this dialect."""
    health = health_check(scorer)
    return [
        Route("/invocations", {"POST": invocations(scorer)}, scores=True),
        Route("/ping", {"GET": health}, open=True),
        Route("/health", {"GET": health}, open=True),
        Route("/version", {"GET": _version(scorer)}, open=True),
    ]


def invocations(scorer: Scorer) -> Handler:
    """A handler that reads any format that MLflow or SageMaker send."""
    reader, raw_inputs = scorer.model.reader, scorer.model.takes_raw_inputs
    return tables(scorer, lambda body: json_in.decode(body, reader, raw_inputs=raw_inputs))


def tables(scorer: Scorer, json: Callable[[bytes], negotiation.Decoded]) -> Handler:
    """A handler that reads JSON by `json` and every other format by its content type, and answers by Accept."""
    reader = scorer.model.reader

    async def handle(request: Request) -> Response:
        content_type, write = negotiation.writer(request.headers.get("accept"))
        payload, params = negotiation.decode(request.headers, request.body, reader, json)
        result = await scorer.score(payload, params)
        return Response(written(write, result), content_type=content_type, rows=payload.rows)

    return handle


def health_check(scorer: Scorer) -> Handler:
    """200 while the model is loaded and predicting works, else 503."""

    async def handle(request: Request) -> Response:  # noqa: ARG001 -- every handler takes one
        scorer.check_ready()
        return Response(b"{}")

    return handle


def identity(scorer: Scorer) -> dict[str, Any]:
    """Which model this is."""
    model = scorer.model
    return {
        "model": model.name,
        "version": model.version,
        "flavor": model.flavor,
        "bundle_digest": model.bundle_digest,
        "server": __version__,
    }


def _version(scorer: Scorer) -> Handler:
    body = orjson.dumps(identity(scorer))

    async def handle(request: Request) -> Response:  # noqa: ARG001 -- every handler takes one
        return Response(body)

    return handle
