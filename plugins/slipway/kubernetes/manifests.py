"""The objects of an endpoint, as they are applied; pure functions from choices to manifests.

Each deployment of an endpoint is a Deployment of its own, `<endpoint>-<deployment>`. The Service, named like the
endpoint, selects the pods of the one that is live: a switch is one write, and what served before stays up until
the new one is published. HorizontalPodAutoscaler, PodDisruptionBudget and Ingress bear the endpoint's name too.

Fields: https://kubernetes.io/docs/reference/kubernetes-api/
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from slipway import naming
from slipway.kubernetes.options import Options, parse

__all__ = [
    "ANNOTATION_MODEL",
    "ANNOTATION_OPTIONS",
    "ANNOTATION_PREVIOUS",
    "ANNOTATION_VERSION",
    "CONTAINER",
    "LABEL_DEPLOYMENT",
    "LABEL_ENDPOINT",
    "MANAGER",
    "PORT",
    "Manifest",
    "Workload",
    "autoscaler",
    "deployment",
    "disruption_budget",
    "endpoint_labels",
    "exposure",
    "ingress",
    "is_ours",
    "options_of",
    "selector",
    "service",
]

Manifest = dict[str, Any]

MANAGER = "slipway"
CONTAINER = "scoring"
LABEL_MANAGED_BY = "app.kubernetes.io/managed-by"
LABEL_ENDPOINT = "slipway/endpoint"
LABEL_DEPLOYMENT = "slipway/deployment"
# A model's name may be no label's value, so it is an annotation.
ANNOTATION_MODEL = "slipway/model"
ANNOTATION_VERSION = "slipway/version"
ANNOTATION_OPTIONS = "slipway/options"
ANNOTATION_PREVIOUS = "slipway/previous"

PORT = 8080
# A server that still loads its model after this is taken for one that does not come up.
_STARTUP_SECONDS = 600
_PROBE_SECONDS = 2
# The endpoint's address has left every proxy of the cluster after this; then the server may stop listening.
_LEAVE_SECONDS = 5
_DRAIN_SECONDS = 30


@dataclass(frozen=True)
class Workload:
    """One deployment of an endpoint: which model version, from which image, how."""

    endpoint: str
    deployment: str
    model: str
    version: str
    image: str
    options: Options

    @property
    def name(self) -> str:
        """The name of its Deployment."""
        return naming.kubernetes_name(self.endpoint, self.deployment)


def endpoint_labels(endpoint: str) -> dict[str, str]:
    """The labels that all objects of an endpoint bear, and by which they are found and removed."""
    return {
        "app.kubernetes.io/name": "slipway-scoring",
        "app.kubernetes.io/instance": endpoint,
        LABEL_MANAGED_BY: MANAGER,
        LABEL_ENDPOINT: endpoint,
    }


def selector(endpoint: str, deployment_id: str) -> dict[str, str]:
    """The labels that pick the pods of one deployment."""
    return {LABEL_ENDPOINT: endpoint, LABEL_DEPLOYMENT: deployment_id}


def is_ours(found: Manifest, endpoint: str) -> bool:
    """Whether an object of the cluster was made for this endpoint by Slipway."""
    labels = found["metadata"].get("labels") or {}
    return labels.get(LABEL_MANAGED_BY) == MANAGER and labels.get(LABEL_ENDPOINT) == endpoint


def options_of(found: Manifest) -> Options:
    """The choices that a Deployment of ours was made with."""
    return parse(json.loads(found["metadata"]["annotations"][ANNOTATION_OPTIONS]))


def deployment(workload: Workload, replicas: int) -> Manifest:
    """The Deployment of a workload.

    :param replicas: how many pods; of one that is scaled already, as many as there are.
    """
    labels = endpoint_labels(workload.endpoint) | selector(workload.endpoint, workload.deployment)
    annotations = {ANNOTATION_MODEL: workload.model, ANNOTATION_VERSION: workload.version}
    options = workload.options.model_dump(mode="json", exclude_defaults=True)
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": workload.name,
            "labels": labels,
            "annotations": annotations | {ANNOTATION_OPTIONS: json.dumps(options, sort_keys=True)},
        },
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": selector(workload.endpoint, workload.deployment)},
            # A change of image or resources replaces pods one by one, each only after its successor is ready.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
            "revisionHistoryLimit": 2,
            "progressDeadlineSeconds": _STARTUP_SECONDS + 60,
            "template": {
                "metadata": {"labels": labels, "annotations": annotations},
                "spec": _pod(workload),
            },
        },
    }


def _pod(workload: Workload) -> Manifest:
    spec: Manifest = {
        # The pod asks nothing of the API server, and needs no list of all services in its environment.
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": _LEAVE_SECONDS + _DRAIN_SECONDS + 10,
        # The "restricted" pod security standard, together with the container's own part.
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": selector(workload.endpoint, workload.deployment)},
            }
        ],
        "containers": [_container(workload)],
        # All that the read-only root leaves to write to.
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    }
    if workload.options.image_pull_secret:
        spec["imagePullSecrets"] = [{"name": workload.options.image_pull_secret}]
    return spec


def _container(workload: Workload) -> Manifest:
    variables = {
        "SLIPWAY_MODEL_NAME": workload.model,
        "SLIPWAY_MODEL_VERSION": workload.version,
        "SLIPWAY_SCORING_HOST": "0.0.0.0",  # noqa: S104  # a pod's own network
        "SLIPWAY_SCORING_PORT": str(PORT),
        "SLIPWAY_SCORING_DRAIN_TIME": str(_DRAIN_SECONDS),
    }
    resources = workload.options.resources
    return {
        "name": CONTAINER,
        "image": workload.image,
        "imagePullPolicy": "IfNotPresent",
        "args": ["serve"],
        "ports": [{"name": "http", "containerPort": PORT, "protocol": "TCP"}],
        "env": [{"name": name, "value": value} for name, value in variables.items()],
        "resources": {"requests": resources.requests, "limits": resources.limits},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "startupProbe": _probe("/v2/health/ready", _PROBE_SECONDS, _STARTUP_SECONDS // _PROBE_SECONDS),
        "readinessProbe": _probe("/v2/health/ready", 5, 3),
        "livenessProbe": _probe("/v2/health/live", 10, 6),
        "lifecycle": {"preStop": {"exec": {"command": ["sleep", str(_LEAVE_SECONDS)]}}},
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }


def _probe(path: str, period: int, failures: int) -> Manifest:
    return {
        "httpGet": {"path": path, "port": "http", "scheme": "HTTP"},
        "periodSeconds": period,
        "timeoutSeconds": 5,
        "failureThreshold": failures,
    }


def exposure(found: Manifest, previous: str | None) -> list[Manifest]:
    """What stands before the pods of a Deployment of ours when it is live, from its own annotations.

    :param found: the Deployment, as the cluster has it.
    :param previous: the deployment that was live before.
    """
    labels, annotations = found["metadata"]["labels"], found["metadata"]["annotations"]
    endpoint, live = labels[LABEL_ENDPOINT], labels[LABEL_DEPLOYMENT]
    options = options_of(found)
    wanted = [service(endpoint, live, annotations[ANNOTATION_MODEL], previous), disruption_budget(endpoint, live)]
    if options.autoscaling:
        wanted.append(autoscaler(endpoint, found["metadata"]["name"], options))
    if options.ingress:
        wanted.append(ingress(endpoint, options))
    return wanted


def service(endpoint: str, live: str, model: str, previous: str | None) -> Manifest:
    """The Service: the endpoint's stable address, and the one place that says which deployment is live."""
    annotations = {ANNOTATION_MODEL: model}
    if previous:
        annotations[ANNOTATION_PREVIOUS] = previous
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(endpoint, annotations),
        "spec": {
            "type": "ClusterIP",
            "selector": selector(endpoint, live),
            "ports": [{"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP", "appProtocol": "http"}],
        },
    }


def disruption_budget(endpoint: str, live: str) -> Manifest:
    """One pod at a time may be evicted: a drained node goes on, and takes no two pods at once."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": _metadata(endpoint),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": selector(endpoint, live)}},
    }


def autoscaler(endpoint: str, name: str, options: Options) -> Manifest:
    """The HorizontalPodAutoscaler of the live Deployment `name`."""
    chosen = options.autoscaling
    if chosen is None:
        raise ValueError("no autoscaling is chosen")
    target = {"type": "Utilization", "averageUtilization": chosen.cpu_percent}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": _metadata(endpoint),
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": chosen.min_replicas,
            "maxReplicas": chosen.max_replicas,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


def ingress(endpoint: str, options: Options) -> Manifest:
    """The Ingress: a host name that leads to the Service."""
    chosen = options.ingress
    if chosen is None:
        raise ValueError("no ingress is chosen")
    backend = {"service": {"name": endpoint, "port": {"name": "http"}}}
    spec: Manifest = {
        "rules": [{"host": chosen.host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
    }
    if chosen.class_name:
        spec["ingressClassName"] = chosen.class_name
    if chosen.tls_secret:
        spec["tls"] = [{"hosts": [chosen.host], "secretName": chosen.tls_secret}]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": _metadata(endpoint, chosen.annotations),
        "spec": spec,
    }


def _metadata(endpoint: str, annotations: dict[str, str] | None = None) -> Manifest:
    metadata: Manifest = {"name": endpoint, "labels": endpoint_labels(endpoint)}
    return metadata | ({"annotations": annotations} if annotations else {})
