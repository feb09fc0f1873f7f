"""A few calls to the Kubernetes API server, in plain JSON, through the provider's hook.

The generated client has a method for each kind and none for a proxied body; what is needed here is the same for
six kinds, so it is written once over the client's own `call_api`, which brings address, credentials and TLS.
"""

from __future__ import annotations

import json
import time
from functools import cached_property
from typing import TYPE_CHECKING, Any

from slipway.errors import NotFound, SlipwayError, UserError
from slipway.hooks.kubernetes_errors import PASSING, translated, unreachable
from slipway.kubernetes.manifests import MANAGER, Manifest
from slipway.kubernetes.options import NAMESPACE

if TYPE_CHECKING:
    from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

__all__ = ["KINDS", "KubernetesApi"]

# Kind: where its objects are; `{}` is the namespace.
KINDS = {
    "Deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "Service": "/api/v1/namespaces/{}/services",
    "PodDisruptionBudget": "/apis/policy/v1/namespaces/{}/poddisruptionbudgets",
    "HorizontalPodAutoscaler": "/apis/autoscaling/v2/namespaces/{}/horizontalpodautoscalers",
    "Ingress": "/apis/networking.k8s.io/v1/namespaces/{}/ingresses",
    "Pod": "/api/v1/namespaces/{}/pods",
    "EndpointSlice": "/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices",
}
_PAUSES = (0.2, 0.5, 1.0, 2.0)


class KubernetesApi:
    """The objects of one namespace of one cluster.

    :param conn_id: Kubernetes connection.
    :param namespace: the namespace; None: the connection's, or the one that this process runs in, or `default`.
    """

    def __init__(self, conn_id: str, namespace: str | None = None) -> None:
        if namespace is not None and not NAMESPACE.fullmatch(namespace):
            raise UserError(
                f"Namespace {namespace[:80]!r} is not one: use 1 to 63 lower-case letters, digits or '-', such as "
                "'models'."
            )
        self.conn_id = conn_id
        self._namespace = namespace

    @cached_property
    def hook(self) -> KubernetesHook:
        """The provider's hook."""
        from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook

        return KubernetesHook(conn_id=self.conn_id)

    @cached_property
    def namespace(self) -> str:
        """The namespace that all calls are about."""
        return self._namespace or self._configured(self.hook.get_namespace) or "default"

    def find(self, kind: str, name: str) -> Manifest | None:
        """Return an object, or None if it is not there."""
        try:
            return dict(self._json("GET", f"{self._path(kind)}/{name}", f"reading {kind} '{name}'"))
        except NotFound:
            return None

    def find_all(self, kind: str, labels: dict[str, str]) -> list[Manifest]:
        """Return the objects of a kind that bear all these labels."""
        query = {"labelSelector": ",".join(f"{name}={value}" for name, value in labels.items())}
        return list(self._json("GET", self._path(kind), f"listing {kind}s", query=query)["items"])

    def apply(self, manifest: Manifest) -> Manifest:
        """Create an object or change it to what the manifest says, by server-side apply; return it.

        Fields that others own are not taken from them.

        :raises UserError: if the cluster refuses the object, or somebody else owns a field and gave it another value.
        """
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        path = f"{self._path(kind)}/{name}"
        query = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        try:
            return dict(self._json("PATCH", path, f"applying {kind} '{name}'", query=query, body=manifest))
        except NotFound:
            raise NotFound(
                f"Namespace '{self.namespace}' is not in the cluster of connection '{self.conn_id}': create it, or "
                "choose another one."
            ) from None

    def delete(self, kind: str, name: str) -> bool:
        """Remove an object and what it owns; return whether it was there."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}
        try:
            self._json("DELETE", f"{self._path(kind)}/{name}", f"removing {kind} '{name}'", body=body)
        except NotFound:
            return False
        return True

    def proxied(self, method: str, what: str, path: str, payload: Any = None) -> tuple[int, bytes]:
        """Send JSON, or ask, through the API server to a pod or service; return the answer's status and body.

        Answers of the API server itself, which speak of its own objects, are raised.

        :param what: `pods/<name>:<port>` or `services/<name>:<port>`.
        """
        url = f"/api/v1/namespaces/{self.namespace}/{what}/proxy/{path}"
        return self._send(method, url, f"asking {what} in namespace '{self.namespace}'", body=payload, proxied=True)

    def _path(self, kind: str) -> str:
        return KINDS[kind].format(self.namespace)

    def _json(self, method: str, path: str, what: str, **options: Any) -> Any:
        return json.loads(self._send(method, path, f"{what} in namespace '{self.namespace}'", **options)[1])

    def _send(
        self,
        method: str,
        path: str,
        what: str,
        *,
        query: dict[str, str] | None = None,
        body: Any = None,
        proxied: bool = False,
    ) -> tuple[int, bytes]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        content_type = "application/apply-patch+yaml" if method == "PATCH" else "application/json"
        client = self._configured(lambda: self.hook.api_client)
        for pause in (*_PAUSES, None):
            try:
                answer = client.call_api(
                    path,
                    method,
                    query_params=list((query or {}).items()),
                    header_params={"Accept": "application/json", "Content-Type": content_type},
                    body=body,
                    auth_settings=["BearerToken"],
                    _preload_content=False,
                    _request_timeout=(10, 120),
                )
                return answer.status, answer.data
            except ApiException as e:
                text = e.body or ""
                if proxied and '"kind":"Status"' not in text.replace(" ", ""):
                    return int(e.status), text.encode()
                failure: SlipwayError = translated(int(e.status), text, what, self.conn_id)
                passing = int(e.status) in PASSING
            except HTTPError as e:
                failure, passing = unreachable(e, what, self.conn_id), True
            if pause is None or not passing:
                raise failure from None
            time.sleep(pause)
        raise AssertionError("unreachable")

    def _configured(self, read: Any) -> Any:
        """Read something that the connection gives.

        :raises UserError: if there is no such connection, or it leads nowhere.
        """
        try:
            return read()
        except Exception as e:
            if type(e).__name__ == "AirflowNotFoundException":
                raise UserError(
                    f"Connection '{self.conn_id}' does not exist: create it under Admin → Connections (type Kubernetes "
                    "Cluster Connection, with a kubeconfig)."
                ) from None
            if type(e).__name__ in {"ConfigException", "AirflowException", "FileNotFoundError"}:
                reason = " ".join(str(e).split())
                raise UserError(
                    f"Connection '{self.conn_id}' leads to no cluster ({reason}): give it a kubeconfig, the path of "
                    "one, or 'in cluster'."
                ) from None
            raise
