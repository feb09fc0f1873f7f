"""`POST /predict`: a bare pandas table, `orient="split"`, as `frame.to_json(orient="split")` writes it."""

from __future__ import annotations

from slipway_scoring.codecs import json_in, negotiation
from slipway_scoring.http import Handler, Request, Response, Route
from slipway_scoring.scorer import Scorer, written


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

    async def handle(request: Request) -> Response:
        content_type, write = negotiation.writer(request.headers.get("accept"))
        payload, params = negotiation.decode(request.headers, request.body, reader, json)
        result = await scorer.score(payload, params)
        return Response(written(write, result), content_type=content_type, rows=payload.rows)

    return handle
