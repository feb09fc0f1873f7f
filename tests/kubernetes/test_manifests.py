"""The manifests against the published schemas of several Kubernetes versions, whatever a user chooses."""

from __future__ import annotations

import json
import re
from typing import Any

import kubernetes_validate
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kubernetes_validate.utils import all_versions

from slipway import naming
from slipway.errors import UserError
from slipway.kubernetes import manifests
from slipway.kubernetes.manifests import Workload
from slipway.kubernetes.options import parse

VERSIONS = all_versions()[-5:]
FULL = {
    "namespace": "models",
    "replicas": 3,
    "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}, "limits": {"cpu": 2, "memory": "2Gi"}},
    "autoscaling": {"min_replicas": 2, "max_replicas": 5, "cpu_percent": 70},
    "ingress": {"host": "churn.example", "class_name": "nginx", "tls_secret": "churn-tls", "annotations": {"a": "b"}},
    "image_pull_secret": "registry",
}


def everything(workload: Workload) -> list[dict[str, Any]]:
    deployment = manifests.deployment(workload, workload.options.first_replicas)
    return [deployment, *manifests.exposure(deployment, "v0-00000000")]


def of(options: dict[str, Any], model: str = "churn", endpoint: str = "churn") -> Workload:
    return Workload(endpoint, "v12-0a1b2c3d", model, "12", "registry.example/churn@sha256:" + "0" * 64, parse(options))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("options", [{}, FULL], ids=["least", "most"])
def test_every_object_is_what_the_published_schema_allows(version: str, options: dict[str, Any]) -> None:
    made = everything(of(options))
    assert len(made) == (5 if options else 3)
    for manifest in made:
        kubernetes_validate.validate(manifest, version, strict=True)


QUANTITY = st.one_of(
    st.integers(1, 64).map(str), st.integers(1, 64), st.integers(1, 9999).map(lambda n: f"{n}m"), st.just("1.5Gi")
)
NAME = st.from_regex(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "replicas": st.integers(1, 1000),
        "namespace": NAME,
        "resources": st.fixed_dictionaries(
            {}, optional={"requests": st.fixed_dictionaries({"cpu": QUANTITY}, optional={"memory": QUANTITY})}
        ),
        "autoscaling": st.fixed_dictionaries({"max_replicas": st.integers(1, 1000)}),
        "ingress": st.fixed_dictionaries(
            {"host": NAME}, optional={"annotations": st.dictionaries(NAME, st.text(max_size=20), max_size=2)}
        ),
        "image_pull_secret": NAME,
    },
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(options=OPTIONS, endpoint=NAME, model=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}", fullmatch=True))
def test_whatever_is_allowed_makes_valid_objects(options: dict[str, Any], endpoint: str, model: str) -> None:
    for manifest in everything(of(options, model, endpoint)):
        kubernetes_validate.validate(manifest, VERSIONS[-1], strict=True)
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", manifest["metadata"]["name"])
        for value in manifest["metadata"]["labels"].values():
            assert re.fullmatch(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?", value)
        assert json.loads(json.dumps(manifest)) == manifest


@given(values=st.dictionaries(st.sampled_from(sorted(FULL)), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2),
    max_leaves=4,
)))  # fmt: skip
def test_odd_values_are_refused_in_a_sentence_or_valid(values: dict[str, Any]) -> None:
    try:
        options = parse(values)
    except UserError as e:
        sentence = str(e)
    else:
        assert parse(options.model_dump()) == options
        return
    assert re.fullmatch(
        r".+ is not allowed for a Kubernetes deployment \(.+\): correct it and deploy again\.", sentence
    )


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({"replicas": 0}, "Option 'replicas'"),
        ({"resources": {"requests": {"cpu": "lots"}}}, "cpu must be a quantity above zero"),
        ({"resources": {"limits": {"memory": "0"}}}, "memory must be a quantity above zero"),
        ({"autoscaling": {"min_replicas": 4, "max_replicas": 2}}, "max_replicas 2 is below min_replicas 4"),
        ({"autoscaling": {}}, "Option 'autoscaling.max_replicas'"),
        ({"autoscaling": {"max_replicas": 2}, "resources": {"requests": {"memory": "1Gi"}}}, "has no cpu"),
        ({"ingress": {"host": "Upper.example"}}, "Option 'ingress.host'"),
        ({"ingress": {"host": "a", "path": "/x"}}, "Option 'ingress.path'"),
        ({"namespace": "a/b"}, "Option 'namespace'"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, Any], part: str) -> None:
    with pytest.raises(UserError, match=re.escape(part)):
        parse(options)


def test_pods_are_restricted_and_read_only() -> None:
    pod = manifests.deployment(of(FULL), 1)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True,
    }  # fmt: skip
    assert pod["automountServiceAccountToken"] is False
    assert {"startupProbe", "readinessProbe", "livenessProbe"} <= container.keys()


def test_a_long_endpoint_keeps_its_deployments_apart() -> None:
    one, two = ("a" * 62 + end for end in "bc")
    names = {naming.kubernetes_name(endpoint, "v12-0a1b2c3d") for endpoint in (one, two)}
    assert len(names) == 2
    assert all(len(name) <= 63 for name in names)


def test_what_was_chosen_is_read_back_from_the_deployment() -> None:
    workload = of(FULL)
    assert manifests.options_of(manifests.deployment(workload, 2)) == workload.options
