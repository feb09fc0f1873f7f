"""The Open Inference Protocol, version 2, over REST
(https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md), with Triton's
binary tensor extension, which `tritonclient` uses by default.
"""

from __future__ import annotations

from typing import Any

import orjson

from slipway_scoring import __version__
from slipway_scoring.codecs import negotiation, tensors
from slipway_scoring.dialects import mlflow
from slipway_scoring.errors import BadPayload, NotFound
from slipway_scoring.http import Handler, Request, Response, Route
from slipway_scoring.scorer import Scorer

_PREFIXES = ("/v2/models/{name}", "/v2/models/{name}/versions/{version}")


def routes(scorer: Scorer) -> list[Route]:
    """The routes of this dialect."""
    ready = mlflow.health_check(scorer)
    metadata, model_ready, infer = _metadata(scorer), _model_ready(scorer), _infer(scorer)
    return [
        Route("/v2", {"GET": _server}),
        Route("/v2/health/live", {"GET": _live}, open=True),
        Route("/v2/health/ready", {"GET": ready}, open=True),
        *(Route(prefix, {"GET": metadata}) for prefix in _PREFIXES),
        *(Route(f"{prefix}/ready", {"GET": model_ready}) for prefix in _PREFIXES),
        *(Route(f"{prefix}/infer", {"POST": infer}, scores=True) for prefix in _PREFIXES),
    ]


async def _server(request: Request) -> Response:  # noqa: ARG001 -- every handler takes one
    return Response(
        orjson.dumps({"name": "slipway-scoring", "version": __version__, "extensions": ["binary_tensor_data"]})
    )


async def _live(request: Request) -> Response:  # noqa: ARG001 -- every handler takes one
    return Response(b"{}")


def _check_name(scorer: Scorer, request: Request) -> None:
    name, version = request.arguments["name"], request.arguments.get("version")
    if name != scorer.model.name or version not in (None, scorer.model.version):
        raise NotFound(
            f"This server has the model '{scorer.model.name}', version {scorer.model.version}: name that one."
        )


def _metadata(scorer: Scorer) -> Handler:
    body = orjson.dumps(tensors.model_metadata(scorer.model))

    async def handle(request: Request) -> Response:
        _check_name(scorer, request)
        return Response(body)

    return handle


def _model_ready(scorer: Scorer) -> Handler:
    async def handle(request: Request) -> Response:
        _check_name(scorer, request)
        scorer.check_ready()
        return Response(orjson.dumps({"name": scorer.model.name, "ready": True}))

    return handle


def _infer(scorer: Scorer) -> Handler:
    async def handle(request: Request) -> Response:
        _check_name(scorer, request)
        header_length = request.headers.get("inference-header-content-length")
        document, binary = tensors.read_document(request.body, header_length)
        payload, params = negotiation.guarded(
            lambda _: tensors.decode(document, binary, scorer.model.reader), request.body
        )
        result = await scorer.score(payload, params)
        wishes = document.get("outputs")
        if wishes is not None and not isinstance(wishes, list):
            raise BadPayload("'outputs' is not a list: send a list of {\"name\": …}.")
        answer: dict[str, Any] = {"model_name": scorer.model.name, "model_version": scorer.model.version}
        if isinstance(document.get("id"), str):
            answer["id"] = document["id"]
        outputs = tensors.of_result(result)
        everything_binary = tensors.parameters(document).get("binary_data_output") is True
        header, parts = tensors.encode(outputs, wishes, everything_binary=everything_binary)
        text = orjson.dumps({**answer, "outputs": header})
        if not parts:
            return Response(text, rows=payload.rows)
        return Response(
            b"".join([text, *parts]),
            content_type="application/octet-stream",
            headers=(("inference-header-content-length", str(len(text))),),
            rows=payload.rows,
        )

    return handle
