"""Every name that Slipway checks or makes. Names are deterministic, so a retried task finds what it made."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

from slipway.errors import UserError

__all__ = [
    "DEPLOYMENT_TAG_PREFIX",
    "check_alias",
    "check_digest",
    "check_endpoint",
    "check_model",
    "default_endpoint",
    "deployment_id",
    "deployment_tag",
    "kubernetes_name",
    "spec_digest",
]

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ENDPOINT = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_ALIAS = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,62}")
_RESERVED_ALIAS = re.compile(r"latest|[vV]\d+", re.IGNORECASE)
_DIGEST = re.compile(r"[0-9a-f]{12,64}")

DEPLOYMENT_TAG_PREFIX = "slipway.deployment."


def check_model(name: str) -> str:
    """Return `name` if it can name a bundle and a registered model.

    :raises UserError: otherwise; the rule is the part that MLflow, file names and image tags have in common.
    """
    if not isinstance(name, str) or not _MODEL.fullmatch(name):
        raise UserError(
            f"Model name {_shown(name)} is not allowed: use 1 to 63 letters, digits, '.', '_' or '-', "
            "starting with a letter or digit, such as 'breast-cancer'."
        )
    return name


def check_endpoint(name: str) -> str:
    """Return `name` if every target accepts it as an endpoint's name (the rule of DNS labels, RFC 1035).

    :raises UserError: otherwise.
    """
    if not isinstance(name, str) or not _ENDPOINT.fullmatch(name):
        raise UserError(
            f"Endpoint name {_shown(name)} is not allowed: use 1 to 63 lower-case letters, digits or '-', "
            "starting with a letter and not ending with '-', such as 'breast-cancer'."
        )
    return name


def check_alias(alias: str) -> str:
    """Return `alias` if MLflow accepts it (it reserves `latest` and `v1`, `v2`, …).

    :raises UserError: otherwise.
    """
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias) or _RESERVED_ALIAS.fullmatch(alias):
        raise UserError(
            f"Alias {_shown(alias)} is not allowed: use letters, digits, '_' or '-', starting with a letter, "
            "and neither 'latest' nor 'v1', 'v2', …; 'champion' and 'challenger' are the usual ones."
        )
    return alias


def check_digest(digest: str) -> str:
    """Return `digest`, in lower case, if it is a bundle digest or a prefix of at least 12 characters.

    :raises UserError: otherwise.
    """
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest.lower()):
        raise UserError(
            f"Bundle digest {_shown(digest)} is not one: give the 64 hexadecimal characters that import_bundle "
            "returned, or at least the first 12 of them."
        )
    return digest.lower()


def default_endpoint(model: str) -> str:
    """Return the endpoint name for `model` where the user gives none: the same, within an endpoint's rule.

    :raises UserError: if nothing usable is left of the name.
    """
    name = re.sub(r"[^a-z0-9]+", "-", model.lower()).strip("-")
    return check_endpoint(name if name[:1].isalpha() else f"m-{name}"[:63].rstrip("-"))


def spec_digest(spec: dict[str, Any]) -> str:
    """Return the sha256 of a deployment's specification, whatever the order of its keys."""
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def deployment_id(version: str, spec: dict[str, Any]) -> str:
    """Return the deployment's name, such as `v3-1f0c2a9b`: version and digest of the specification."""
    return f"v{version}-{spec_digest(spec)[:8]}"


def kubernetes_name(endpoint: str, deployment: str) -> str:
    """Return the name of a deployment's objects on Kubernetes: a DNS label, so at most 63 characters."""
    name = f"{endpoint}-{deployment}"
    if len(name) <= 63:
        return name
    digest = hashlib.sha256(endpoint.encode()).hexdigest()[:6]
    room = 63 - len(f"-{digest}-{deployment}")
    return f"{endpoint[:room].rstrip('-')}-{digest}-{deployment}"


def deployment_tag(target: str, endpoint: str) -> str:
    """Return the MLflow tag that records what `endpoint` on `target` serves."""
    return f"{DEPLOYMENT_TAG_PREFIX}{target}.{endpoint}"


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…'"
