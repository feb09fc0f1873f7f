"""What SageMaker asks of a container besides `/ping` and `/invocations`
(https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-batch-code.html)."""

from __future__ import annotations

import orjson

from slipway_scoring.http import Handler, Request, Response, Route
from slipway_scoring.scorer import Scorer

_MAX_PAYLOAD_MB = 6
"""SageMaker's own bound for one record batch of a transform job's default strategy."""


def routes(scorer: Scorer) -> list[Route]:
    """The routes of this dialect."""
    return [Route("/execution-parameters", {"GET": _execution_parameters(scorer)})]


def _execution_parameters(scorer: Scorer) -> Handler:
    """Tells a batch transform job how to send its records: several at a time if the model takes them so."""
    body = orjson.dumps(
        {"MaxConcurrentTransforms": 4, "BatchStrategy": "MULTI_RECORD", "MaxPayloadInMB": _MAX_PAYLOAD_MB}
        if scorer.model.batching.enabled
        else {"MaxConcurrentTransforms": 1, "BatchStrategy": "SINGLE_RECORD", "MaxPayloadInMB": _MAX_PAYLOAD_MB}
    )

    async def handle(request: Request) -> Response:  # noqa: ARG001 -- every handler takes one
        return Response(body)

    return handle
