"""The host's figures in Prometheus' text format; the scoring servers have their own at `/endpoints/{e}/metrics`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4"

# Name, type, meaning, and the field of a deployment's view that holds the value.
_METRICS = (
    ("slipway_deployment_up", "gauge", "1 if the scoring server answers requests.", "up"),
    ("slipway_deployment_live", "gauge", "1 if the endpoint's requests go to this deployment.", "live"),
    ("slipway_deployment_requests_total", "counter", "Requests sent to the deployment, those sent again included.",
     "requests"),
    ("slipway_deployment_requests_in_flight", "gauge", "Requests that are not answered yet.", "in_flight"),
    ("slipway_deployment_restarts_total", "counter", "Restarts of the scoring server.", "restarts"),
)  # fmt: skip


def exposition(endpoints: Sequence[dict[str, Any]]) -> str:
    """All metrics of the endpoints' views; names need no escaping, models' do."""
    lines = []
    for name, kind, meaning, field in _METRICS:
        lines += [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}"]
        for endpoint in endpoints:
            for deployment in endpoint["deployments"]:
                value = deployment["id"] == endpoint["live"] if field == "live" else deployment[field]
                labels = {key: deployment[key] for key in ("endpoint", "id", "model", "version")}
                text = ",".join(f'{key}="{_escaped(label)}"' for key, label in labels.items())
                lines.append(f"{name}{{{text}}} {int(value)}")
    return "\n".join(lines) + "\n"


def _escaped(label: str) -> str:
    return label.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
