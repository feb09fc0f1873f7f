"""InvokeEndpoint: a request to the endpoint's server, within SageMaker's limits of size and time, and data capture.

Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
"""

from __future__ import annotations

import base64
import json
import random
import uuid
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import Any

import httpx
from werkzeug.wrappers import Request, Response

from slipway_sandbox.aws import neighbours
from slipway_sandbox.aws.fleet import Fleet, log_group
from slipway_sandbox.aws.protocol import AwsError, service_model
from slipway_sandbox.aws.settings import ACCOUNT, Behaviour
from slipway_sandbox.aws.store import Endpoint, Region

__all__ = ["Runtime"]

_SERVERLESS_BYTES = 4 * 2**20
_DEFAULT_TYPE = "application/octet-stream"


class Runtime:
    """Answers invocations."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        shape = service_model("sagemaker-runtime").shape_for("BodyBlob")
        self._most_bytes = int(shape.metadata["max"])

    def invoke(self, region: Region, name: str, request: Request, body: bytes) -> Response:
        """Send a body to the endpoint's server and return what it answers.

        :raises AwsError: if the endpoint does not serve, the body is too large, or the server fails.
        """
        with ExitStack() as stack:
            with region.lock:  # from here on the fleet is not retired
                endpoint = region.endpoints.get(name)
                if endpoint is None or endpoint.live is None:
                    what = f"Endpoint {name} of account {ACCOUNT} not found."
                    raise AwsError("ValidationError", what)
                candidate = endpoint.candidate
                fleet = candidate if candidate and random.random() < endpoint.share else endpoint.live
                admitted = stack.enter_context(fleet.request())
            if not admitted:
                raise AwsError("ThrottlingException", "Rate exceeded: MaxConcurrency of the endpoint is reached.", 429)
            most = self._most_bytes if fleet.concurrency is None else _SERVERLESS_BYTES
            if len(body) > most:
                raise AwsError("ValidationError", f"Request body is larger than {most} bytes.", 413)
            answer = self._ask(region, endpoint, fleet, request, body)
            if len(answer.content) > most:
                raise AwsError("ModelError", f"Response is larger than {most} bytes.", 424, OriginalStatusCode=200)
            _capture(endpoint, fleet, request, body, answer)
            headers = {
                "x-Amzn-Invoked-Production-Variant": fleet.variant["VariantName"],
                "Content-Type": answer.headers.get("content-type", _DEFAULT_TYPE),
            }
            if custom := answer.headers.get("x-amzn-sagemaker-custom-attributes"):
                headers["X-Amzn-SageMaker-Custom-Attributes"] = custom
            return Response(answer.content, 200, headers)

    def _ask(self, region: Region, endpoint: Endpoint, fleet: Fleet, request: Request, body: bytes) -> httpx.Response:
        headers = {"Content-Type": request.headers.get("Content-Type", _DEFAULT_TYPE)}
        for name in ("Accept", "X-Amzn-SageMaker-Custom-Attributes", "X-Amzn-SageMaker-Inference-Id"):
            if name in request.headers:
                headers[name] = request.headers[name]
        try:
            answer = fleet.client.post(
                "/invocations", content=body, headers=headers, timeout=self._behaviour.invocation_seconds
            )
        except httpx.TimeoutException:
            raise _model_error(
                region,
                endpoint,
                0,
                "Your invocation timed out while waiting for a response from container primary. Review the latency "
                "metrics for each container in Amazon CloudWatch, resolve the issue, and try again.",
            ) from None
        except httpx.TransportError:
            raise _model_error(region, endpoint, 503, "The container does not answer.") from None
        if not answer.is_success:
            raise _model_error(region, endpoint, answer.status_code, answer.text)
        return answer


def _model_error(region: Region, endpoint: Endpoint, status: int, message: str) -> AwsError:
    kind = "client" if 400 <= status < 500 else "server"
    return AwsError(
        "ModelError",
        f'Received {kind} error ({status}) from primary with message "{message}". See CloudWatch log group '
        f"{log_group(endpoint.name)} in account {ACCOUNT} for more information.",
        424,
        OriginalStatusCode=status,
        OriginalMessage=message,
        LogStreamArn=f"arn:aws:logs:{region.name}:{ACCOUNT}:log-group:{log_group(endpoint.name)}",
    )


def _capture(endpoint: Endpoint, fleet: Fleet, request: Request, body: bytes, answer: httpx.Response) -> None:
    """Write a captured pair to S3, a file each.

    Source: https://docs.aws.amazon.com/sagemaker/latest/dg/model-monitor-data-capture-endpoint.html
    """
    capture = endpoint.capture
    if not capture or not capture.get("EnableCapture"):
        return
    if random.random() * 100 >= capture["InitialSamplingPercentage"]:
        return
    now, identity = datetime.now(UTC), str(uuid.uuid4())
    modes = {option["CaptureMode"] for option in capture["CaptureOptions"]}
    parts = {
        "Input": (request.headers.get("Content-Type", _DEFAULT_TYPE), body),
        "Output": (answer.headers.get("content-type", _DEFAULT_TYPE), answer.content),
    }
    event = {
        "captureData": {
            f"endpoint{mode}": _captured(mode.upper(), *part)
            for mode, part in parts.items()
            if mode in modes or "InputAndOutput" in modes
        },
        "eventMetadata": {"eventId": identity, "inferenceTime": now.isoformat(timespec="seconds")},
        "eventVersion": "0",
    }
    folder = capture["DestinationS3Uri"].rstrip("/")
    key = f"{endpoint.name}/{fleet.variant['VariantName']}/{now:%Y/%m/%d/%H}/{now:%M-%S-%f}-{identity}.jsonl"
    neighbours.put_object(f"{folder}/{key}", json.dumps(event).encode() + b"\n")


def _captured(mode: str, content_type: str, data: bytes) -> dict[str, Any]:
    text = content_type.startswith(("text/csv", "application/json"))
    return {
        "observedContentType": content_type,
        "mode": mode,
        "data": data.decode() if text else base64.b64encode(data).decode(),
        "encoding": ("CSV" if "csv" in content_type else "JSON") if text else "BASE64",
    }
