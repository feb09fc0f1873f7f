"""What the API server does to an object before it stores it: defaults, the schema, and the rules behind it."""

from __future__ import annotations

import re
from typing import Any

import kubernetes_validate

from slipway_sandbox.kubernetes.fields import Object
from slipway_sandbox.kubernetes.resources import Resource
from slipway_sandbox.kubernetes.status import Refusal, forbidden, invalid

__all__ = ["admit", "check_pod_security", "check_schema", "set_defaults"]

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_SERVICE = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_VALUE = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?")
_UNITS = {
    "": 1.0, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40,
}  # fmt: skip
_SYSTEM = {"status", "managedFields", "creationTimestamp", "uid", "resourceVersion", "generation", "namespace"}


def check_schema(found: Object) -> None:
    """Refuse what the newest published schema does not allow, as `fieldValidation=Strict` does."""
    plain = {key: value for key, value in found.items() if key != "status"}
    plain["metadata"] = {key: value for key, value in found["metadata"].items() if key not in _SYSTEM}
    try:
        kubernetes_validate.validate(plain, kubernetes_validate.latest_version(), strict=True)
    except kubernetes_validate.ValidationError as error:
        at = ".".join(str(step) for step in error.path)
        raise Refusal(400, f"strict decoding error: {at or found['kind']}: {error.message}") from None


def admit(resource: Resource, found: Object) -> None:
    """Refuse what breaks the rules that no schema states."""
    name = found["metadata"].get("name", "")
    rule = _SERVICE if resource.kind == "Service" else _SUBDOMAIN
    problems: list[tuple[str, str]] = []
    if not rule.fullmatch(name) or len(name) > (63 if rule is _SERVICE else 253):
        problems.append(("metadata.name", f'Invalid value: "{name}": a lowercase RFC 1123 subdomain is required'))
    problems += _labels("metadata.labels", found["metadata"].get("labels"))
    if resource.kind == "Deployment":
        problems += _deployment(found["spec"])
    if resource.kind == "HorizontalPodAutoscaler":
        spec = found["spec"]
        if spec.get("minReplicas", 1) > spec["maxReplicas"]:
            problems.append(("spec.maxReplicas", f"Invalid value: {spec['maxReplicas']}: must be >= minReplicas"))
    if problems:
        raise invalid(f"{resource.kind}.{resource.group}" if resource.group else resource.kind, name, problems)


def _labels(path: str, labels: dict[str, str] | None) -> list[tuple[str, str]]:
    return [
        (path, f'Invalid value: "{value}": a valid label must be at most 63 alphanumerics, "-", "_" or "."')
        for value in (labels or {}).values()
        if not _VALUE.fullmatch(value)
    ]


def _deployment(spec: Object) -> list[tuple[str, str]]:
    problems = []
    template = spec["template"]["metadata"].get("labels", {})
    wanted = spec["selector"].get("matchLabels", {})
    problems += _labels("spec.template.metadata.labels", template)
    if not wanted or not wanted.items() <= template.items():
        problems.append(("spec.template.metadata.labels", "Invalid value: `selector` does not match template `labels`"))
    for i, container in enumerate(spec["template"]["spec"]["containers"]):
        resources = container.get("resources", {})
        for name, request in resources.get("requests", {}).items():
            limit = resources.get("limits", {}).get(name)
            if limit is not None and _quantity(request) > _quantity(limit):
                at = f"spec.template.spec.containers[{i}].resources.requests"
                problems.append(
                    (at, f'Invalid value: "{request}": must be less than or equal to {name} limit of {limit}')
                )
        if not container.get("image"):
            problems.append((f"spec.template.spec.containers[{i}].image", "Required value"))
    return problems


def _quantity(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|[kMGT]|[KMGT]i)?", text)
    if found is None:
        raise Refusal(400, f"unable to parse quantity {text!r}")
    return float(found[1]) * _UNITS[found[2] or ""]


def set_defaults(resource: Resource, found: Object) -> None:
    """Fill in what the client left out."""
    spec: Any = found.setdefault("spec", {}) if resource.kind != "Event" else {}
    if resource.kind == "Service":
        spec.setdefault("clusterIP", "10.96.0.10")
        spec.setdefault("type", "ClusterIP")
        spec.setdefault("sessionAffinity", "None")
        for port in spec.get("ports", []):
            port.setdefault("protocol", "TCP")
            port.setdefault("targetPort", port["port"])
    if resource.kind == "Deployment":
        spec.setdefault("replicas", 1)
        spec.setdefault("progressDeadlineSeconds", 600)
        spec.setdefault("revisionHistoryLimit", 10)
        spec.setdefault("strategy", {"type": "RollingUpdate"})
        spec["template"]["spec"].setdefault("restartPolicy", "Always")
        spec["template"]["spec"].setdefault("terminationGracePeriodSeconds", 30)


def check_pod_security(namespace: Object, pod: Object) -> None:
    """Refuse a pod that the namespace's pod security standard does not admit.

    Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
    """
    level = (namespace["metadata"].get("labels") or {}).get("pod-security.kubernetes.io/enforce")
    if level != "restricted":
        return
    spec = pod["spec"]
    whole = spec.get("securityContext") or {}
    problems = []
    for container in spec["containers"]:
        own = container.get("securityContext") or {}
        if own.get("allowPrivilegeEscalation") is not False:
            problems.append("allowPrivilegeEscalation != false")
        if "ALL" not in (own.get("capabilities") or {}).get("drop", []):
            problems.append("unrestricted capabilities")
        if not (own.get("runAsNonRoot") or whole.get("runAsNonRoot")):
            problems.append("runAsNonRoot != true")
        profile = (own.get("seccompProfile") or whole.get("seccompProfile") or {}).get("type")
        if profile not in {"RuntimeDefault", "Localhost"}:
            problems.append("seccompProfile")
    if problems:
        told = ", ".join(problems)
        raise forbidden("pods", pod["metadata"]["name"], f'violates PodSecurity "restricted:latest": {told}')
