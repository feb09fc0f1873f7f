"""One endpoint as it is now: whether it is well, what it counts, and a prediction to try it with."""

from __future__ import annotations

import json
import math
import re
import time
from dataclasses import dataclass
from typing import Any, cast

import httpx

from slipway.domain import DeploymentRecord
from slipway.errors import Unavailable, UserError
from slipway.targets import WatchingHook, recorded_hook

__all__ = ["CONNECTIONS", "COUNTED", "Answer", "Figures", "Health", "figures", "health", "try_it"]

# The connections that the deploy DAGs name unless told otherwise.
CONNECTIONS = {
    "mlflow": "model_host_default",
    "docker": "docker_default",
    "kubernetes": "kubernetes_default",
    "sagemaker": "aws_default",
    "azureml": "azureml_default",
}
# Targets that say themselves where the scoring server's own routes are reached from here. A record's address is never
# asked: records are tags, which others can write, and a token must not go wherever one of them says.
_OWN_ROUTES = frozenset({"mlflow", "docker"})
# Targets with live figures: to pods, the API server leads.
COUNTED = _OWN_ROUTES | {"kubernetes"}
_NO_SCORING = ("/ping", "/health", "/version", "/metrics", "/openapi.json", "/docs", "/v2/health", "/live", "/ready")
_SAMPLE = re.compile(r"^([a-z_]+)(?:\{([^}]*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_SECONDS = 4.0
_LARGEST_METRICS = 4 * 1024**2
_LARGEST_INPUT = 1024**2


@dataclass(frozen=True)
class Health:
    """How an endpoint is: `well`, `ill` or `gone`, and what there is to say of it."""

    state: str
    sentence: str
    milliseconds: float | None = None


@dataclass(frozen=True)
class Figures:
    """What the scoring servers have counted since they started, over the routes that score."""

    requests: float
    errors: float
    seconds: float  # of all answers together
    buckets: tuple[tuple[float | None, float], ...]  # upper bound in seconds (None: no bound), answers up to it


@dataclass(frozen=True)
class Answer:
    """What a model said to what was tried."""

    predictions: str  # JSON
    milliseconds: float


def health(record: DeploymentRecord, conn_id: str) -> Health:
    """Ask the target what serves, and the endpoint whether it answers.

    :param conn_id: the target's connection.
    :raises SlipwayError: if the target cannot be asked.
    """
    hook = recorded_hook(record, conn_id)
    served = hook.served(record.endpoint)
    if served is None:
        return Health("gone", "Nothing of this endpoint is there any more: deploy it again, or undeploy it.")
    if not served.answers:
        return Health("ill", "What passes requests on to it does not answer, so nobody can say what it serves.")
    if served.live is None:
        return Health("ill", "No deployment serves yet.")
    if served.live != record.deployment:
        return Health("ill", f"Deployment {served.live} serves, and not the recorded {record.deployment}.")
    if record.target in _OWN_ROUTES:
        return _ping(record, conn_id)
    condition = cast("WatchingHook", hook).condition(record.endpoint, served.live)
    return Health("well" if condition.well else "ill", condition.sentence)


def _ping(record: DeploymentRecord, conn_id: str) -> Health:
    url, headers = _address(record, conn_id)
    began = time.perf_counter()
    try:
        response = httpx.get(f"{url}/ping", headers=headers, timeout=_SECONDS)
    except (httpx.TransportError, httpx.InvalidURL) as e:
        return Health("ill", f"It does not answer at {url} ({type(e).__name__}).")
    if not response.is_success:
        return Health("ill", f"It answers HTTP {response.status_code} to a health check.")
    return Health("well", "In service.", (time.perf_counter() - began) * 1000)


def figures(record: DeploymentRecord, conn_id: str) -> Figures:
    """Read the scoring server's metrics.

    :param conn_id: the target's connection.
    :raises UserError: if the target gives none.
    :raises Unavailable: if they cannot be read now.
    """
    if record.target not in COUNTED:
        raise UserError("This target gives no live figures here: see its own console.")
    if record.target == "kubernetes":
        from slipway.hooks.kubernetes import KubernetesEndpointHook

        return parse_figures(KubernetesEndpointHook(conn_id).metrics(record.endpoint, record.deployment))
    url, headers = _address(record, conn_id)
    try:
        with httpx.stream("GET", f"{url}/metrics", headers=headers, timeout=_SECONDS) as response:
            response.raise_for_status()
            text = b""
            for chunk in response.iter_bytes():
                text += chunk
                if len(text) > _LARGEST_METRICS:
                    raise Unavailable("What the endpoint gives for its metrics is too large to be them.")
    except (httpx.HTTPError, httpx.InvalidURL) as e:
        raise Unavailable(f"The endpoint's metrics cannot be read ({type(e).__name__}).") from None
    return parse_figures(text.decode(errors="replace"))


def parse_figures(text: str) -> Figures:
    """Read Prometheus' text format (https://prometheus.io/docs/instrumenting/exposition_formats/)."""
    requests = errors = seconds = 0.0
    buckets: dict[float, float] = {}
    for name, written, value in _SAMPLE.findall(text):
        labels = dict(_LABEL.findall(written))
        if labels.get("route", "").startswith(_NO_SCORING):
            continue
        match name:
            case "slipway_requests_total":
                requests += float(value)
            case "slipway_errors_total":
                errors += float(value)
            case "slipway_request_seconds_sum":
                seconds += float(value)
            case "slipway_request_seconds_bucket":
                bound = float(labels["le"])
                buckets[bound] = buckets.get(bound, 0.0) + float(value)
    bounded = [(None if math.isinf(bound) else bound, count) for bound, count in sorted(buckets.items())]
    return Figures(requests, errors, seconds, tuple(bounded))


def try_it(record: DeploymentRecord, conn_id: str, text: str) -> Answer:
    """Send a body to the endpoint, as its verification does, and return the predictions.

    :param conn_id: the target's connection.
    :raises SlipwayError: if the text is no JSON object, or the endpoint refuses it or fails.
    """
    if len(text) > _LARGEST_INPUT:
        raise UserError(f"The input has {len(text):,} characters: try it with at most {_LARGEST_INPUT:,}.")
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError) as e:
        raise UserError(f"The input is not valid JSON ({e}).") from None
    if not isinstance(payload, dict):
        raise UserError('The input is not a JSON object: begin with {"dataframe_split": …}.')
    hook = recorded_hook(record, conn_id)
    began = time.perf_counter()
    predictions = hook.invoke(record.endpoint, payload)
    took = (time.perf_counter() - began) * 1000
    return Answer(json.dumps(predictions, indent=2, ensure_ascii=False), took)


def sample_text(payload: dict[str, Any] | None) -> str:
    """Return an example body as text for an editor: one line for each row of data."""
    if payload is None:
        return '{"dataframe_split": {"columns": [], "data": [[]]}}'
    split = payload.get("dataframe_split")
    if not isinstance(split, dict) or set(split) - {"columns", "data"} or not isinstance(split.get("data"), list):
        return json.dumps(payload, indent=2)
    rows = ",\n".join(f"    {json.dumps(row)}" for row in split["data"])
    columns = json.dumps(split.get("columns", []))
    return f'{{"dataframe_split": {{\n  "columns": {columns},\n  "data": [\n{rows}\n  ]\n}}}}'


def _address(record: DeploymentRecord, conn_id: str) -> tuple[str, dict[str, str]]:
    """Return where the target says that an endpoint is, and the headers to send there."""
    if record.target == "mlflow":
        from slipway.hooks.model_host import ModelHostHook

        return ModelHostHook(conn_id).address(record.endpoint)
    from slipway.hooks.docker import DockerEndpointHook

    return DockerEndpointHook(conn_id).address(record.endpoint)
