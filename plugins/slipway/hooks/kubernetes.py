"""Endpoints on a Kubernetes cluster: one Deployment for each deployment, one Service for the endpoint."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from typing import Any

from slipway import settings
from slipway.errors import NotFound, Unavailable, UserError
from slipway.hooks.kubernetes_api import KubernetesApi
from slipway.kubernetes import manifests
from slipway.kubernetes.manifests import ANNOTATION_MODEL, ANNOTATION_PREVIOUS, LABEL_DEPLOYMENT, Manifest, Workload
from slipway.kubernetes.rollout import assess
from slipway.naming import kubernetes_name
from slipway.targets import Condition, Served

__all__ = ["KubernetesEndpointHook"]

# In the order in which an endpoint is taken down: no new requests first, the pods last.
_FRONT = ("Ingress", "HorizontalPodAutoscaler", "Service", "PodDisruptionBudget")
_OPTIONAL = ("Ingress", "HorizontalPodAutoscaler")
# Controllers write the Service's addresses some milliseconds after its selector changed; seconds on a busy cluster.
_SWITCH_SECONDS = 90.0
_SWITCH_POLL_SECONDS = 0.1


class KubernetesEndpointHook:
    """The endpoints of one namespace.

    :param place: the Kubernetes connection, or `connection/namespace` for another namespace than the connection's.
    """

    def __init__(self, place: str = "kubernetes_default") -> None:
        conn_id, _, namespace = place.partition("/")
        self.api = KubernetesApi(conn_id, namespace or None)

    def put_workload(self, workload: Workload) -> Manifest:
        """Create or adopt the Deployment of a workload; its pods are not waited for.

        One that is live already stays as it is, whatever image is wanted now: the same deploy changes nothing.

        :raises UserError: if an object that the endpoint needs is there, and is not ours.
        """
        endpoint = workload.endpoint
        for kind in _FRONT:
            self._check_ours(kind, endpoint, endpoint)
        found = self._check_ours("Deployment", workload.name, endpoint)
        live = self._live(self.api.find("Service", endpoint))
        if found and live == workload.deployment:
            return found
        replicas = workload.options.first_replicas
        if found and workload.options.autoscaling:
            # What the autoscaler made of it stays.
            replicas = found["spec"].get("replicas") or replicas
        return self.api.apply(manifests.deployment(workload, replicas))

    def deployment(self, endpoint: str, deployment: str) -> Manifest | None:
        """Return the Deployment of one of an endpoint's deployments, if it is there and ours."""
        found = self.api.find("Deployment", kubernetes_name(endpoint, deployment))
        return found if found and manifests.is_ours(found, endpoint) else None

    def invoke(self, endpoint: str, payload: dict[str, Any], *, deployment: str | None = None) -> Any:
        """Send a body of `/invocations` through the API server and return the predictions.

        :param deployment: ask a pod of this deployment, rather than the Service.
        :raises UserError: if there is no such deployment, or its scoring server refuses the input.
        :raises Unavailable: if it does not answer.
        """
        where = (
            f"pods/{self._ready_pods(endpoint, deployment)[0]}:{manifests.PORT}"
            if deployment
            else f"services/{endpoint}:http"
        )
        status, body = self.api.proxied("POST", where, "invocations", payload)
        if status == 200:
            return json.loads(body)["predictions"]
        text = " ".join(body.decode(errors="replace").split())[:500]
        failure = Unavailable if status in {429, 502, 503, 504} else UserError
        raise failure(f"The scoring server of endpoint '{endpoint}' answers HTTP {status}: {text}")

    def served(self, endpoint: str) -> Served | None:
        """Return what there is of an endpoint; None if there is nothing of ours."""
        labels = manifests.endpoint_labels(endpoint)
        found = {d["metadata"]["labels"][LABEL_DEPLOYMENT]: d for d in self.api.find_all("Deployment", labels)}
        service = self.api.find("Service", endpoint)
        if service is None or not manifests.is_ours(service, endpoint):
            fronts = [kind for kind in _FRONT if self.api.find_all(kind, labels)]
            return Served(endpoint, deployments=frozenset(found)) if found or fronts else None
        annotations = service["metadata"].get("annotations") or {}
        live, previous = self._live(service), annotations.get(ANNOTATION_PREVIOUS)
        return Served(
            endpoint,
            model=annotations.get(ANNOTATION_MODEL),
            live=live if live in found else None,
            previous=previous if previous in found else None,
            deployments=frozenset(found),
        )

    def condition(self, endpoint: str, deployment: str) -> Condition:
        """Return how a deployment is: it answers while any pod of it is ready."""
        found = self.deployment(endpoint, deployment)
        if found is None:
            return Condition(False, f"Deployment {deployment} is not on the cluster any more: deploy it again.")
        pods = self.api.find_all("Pod", manifests.selector(endpoint, deployment))
        state = assess(found, pods, (), now=datetime.now(UTC), patience=0.0)
        return Condition(bool(_ready(pods)), f"{state.message[:1].upper()}{state.message[1:]}.")

    def metrics(self, endpoint: str, deployment: str) -> str:
        """Return what the scoring servers of a deployment count: Prometheus' text, one ready pod's after the other's.

        :raises Unavailable: if no pod is ready, or one does not answer.
        """
        texts = []
        for pod in self._ready_pods(endpoint, deployment):
            status, body = self.api.proxied("GET", f"pods/{pod}:{manifests.PORT}", "metrics")
            if status != 200:
                raise Unavailable(f"Pod {pod} of endpoint '{endpoint}' answers HTTP {status} when asked for metrics.")
            texts.append(body.decode(errors="replace"))
        return "\n".join(texts)

    def set_live(self, endpoint: str, deployment: str) -> None:
        """Let the Service select a deployment's pods, and wait until it leads to them alone.

        :raises NotFound: if there is no such deployment.
        :raises Unavailable: if none of its pods gets the Service's traffic in time.
        """
        found = self.deployment(endpoint, deployment)
        if found is None:
            raise NotFound(f"Endpoint '{endpoint}' has no deployment {deployment} on the cluster: deploy it again.")
        service = self._check_ours("Service", endpoint, endpoint)
        live = self._live(service)
        previous = (
            live
            if live != deployment
            else ((service or {})["metadata"].get("annotations") or {}).get(ANNOTATION_PREVIOUS)
        )
        wanted = manifests.exposure(found, previous)
        for kind in _OPTIONAL:
            if kind not in {manifest["kind"] for manifest in wanted} and self._check_ours(kind, endpoint, endpoint):
                self.api.delete(kind, endpoint)
        for manifest in wanted:
            self.api.apply(manifest)
        self._wait_for_traffic(endpoint, deployment)

    def delete_deployment(self, endpoint: str, deployment: str) -> None:
        """Remove a deployment and its pods; it must not be live."""
        found = self.deployment(endpoint, deployment)
        if found is None:
            return
        if self._live(self.api.find("Service", endpoint)) == deployment:
            raise UserError(f"Deployment {deployment} of endpoint '{endpoint}' is live: undeploy the endpoint instead.")
        self.api.delete("Deployment", found["metadata"]["name"])

    def delete_endpoint(self, endpoint: str) -> None:
        """Remove all that bears the endpoint's labels, and nothing else."""
        for kind in (*_FRONT, "Deployment"):
            for found in self.api.find_all(kind, manifests.endpoint_labels(endpoint)):
                self.api.delete(kind, found["metadata"]["name"])

    def retire(self, endpoint: str, deployment: str) -> list[str]:
        """Remove what served before a deployment, and what killed deploys left long ago; return the names.

        Where another one is live by now, nothing is removed: its run may have to fall back to what is there.
        """
        service = self.api.find("Service", endpoint)
        live = self._live(service)
        if service is None or live != deployment or not manifests.is_ours(service, endpoint):
            return []
        previous = (service["metadata"].get("annotations") or {}).get(ANNOTATION_PREVIOUS)
        retired = []
        for found in self.api.find_all("Deployment", manifests.endpoint_labels(endpoint)):
            name = found["metadata"]["labels"][LABEL_DEPLOYMENT]
            # A younger one may be another deploy's candidate.
            made = datetime.fromisoformat(found["metadata"]["creationTimestamp"])
            left_over = (datetime.now(UTC) - made).total_seconds() > settings.ready_timeout_seconds()
            if name != live and (name == previous or left_over):
                self.api.delete("Deployment", found["metadata"]["name"])
                retired.append(name)
        return retired

    def _check_ours(self, kind: str, name: str, endpoint: str) -> Manifest | None:
        found = self.api.find(kind, name)
        if found and not manifests.is_ours(found, endpoint):
            raise UserError(
                f"{kind} '{name}' in namespace '{self.api.namespace}' is not Slipway's, and stays as it is: choose "
                "another endpoint's name, or another namespace."
            )
        return found

    @staticmethod
    def _live(service: Manifest | None) -> str | None:
        live = ((service or {}).get("spec") or {}).get("selector", {}).get(LABEL_DEPLOYMENT)
        return None if live is None else str(live)

    def _ready_pods(self, endpoint: str, deployment: str) -> list[str]:
        ready = _ready(self.api.find_all("Pod", manifests.selector(endpoint, deployment)))
        if not ready:
            if self.deployment(endpoint, deployment) is None:
                raise NotFound(f"Endpoint '{endpoint}' has no deployment {deployment} on the cluster: deploy it again.")
            raise Unavailable(f"No pod of deployment {deployment} of endpoint '{endpoint}' is ready at the moment.")
        return ready

    def _wait_for_traffic(self, endpoint: str, deployment: str) -> None:
        deadline = time.monotonic() + _SWITCH_SECONDS
        while True:
            pods = {p["metadata"]["name"] for p in self.api.find_all("Pod", manifests.selector(endpoint, deployment))}
            ready = {
                str((address.get("targetRef") or {}).get("name"))
                for part in self.api.find_all("EndpointSlice", {"kubernetes.io/service-name": endpoint})
                for address in part.get("endpoints") or []
                if (address.get("conditions") or {}).get("ready")
            }
            if ready and ready <= pods:
                return
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"Service '{endpoint}' does not lead to the pods of deployment {deployment} after "
                    f"{_SWITCH_SECONDS:.0f} s: see kubectl describe service."
                )
            time.sleep(_SWITCH_POLL_SECONDS)


def _ready(pods: list[Manifest]) -> list[str]:
    """Return the names of those pods that take requests."""
    return [
        str(pod["metadata"]["name"])
        for pod in pods
        if "deletionTimestamp" not in pod["metadata"]
        and any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", []))
    ]
