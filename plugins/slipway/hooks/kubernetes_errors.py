"""What a refusal of the Kubernetes API server means, in one sentence.

Source of the `Status` object: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from __future__ import annotations

import json
from typing import Any

from slipway.errors import NotFound, SlipwayError, Unavailable, UserError

__all__ = ["PASSING", "explained", "translated", "unreachable"]

PASSING = {429, 500, 502, 503, 504}


def translated(status: int, body: str | None, what: str, conn_id: str) -> SlipwayError:
    """Return the exception to raise for an error answer.

    :param status: its HTTP status.
    :param body: its body, a `Status` object or whatever a proxy on the way wrote.
    :param what: what was tried, such as `applying Deployment 'a'`.
    :param conn_id: the connection that was used.
    """
    message, causes = explained(body)
    if status in {401, 403}:
        return _denied(status, message, what, conn_id)
    if status == 404:
        return NotFound(f"The cluster answers that what is needed for {what} is not there ({message}).")
    if status == 409 and causes:
        return _contested(causes, what)
    if status in PASSING or status == 409:
        return Unavailable(f"The cluster of connection '{conn_id}' failed with HTTP {status} while {what}: {message}")
    return UserError(f"The cluster refuses {what}: {message}")


def _denied(status: int, message: str, what: str, conn_id: str) -> UserError:
    if status == 401:
        return UserError(
            f"The cluster of connection '{conn_id}' refuses its credentials (HTTP 401): correct the connection's "
            "kubeconfig or token."
        )
    if "exceeded quota" in message:
        return UserError(f"The namespace's quota does not allow {what} ({message}): ask for less, or have it raised.")
    return UserError(
        f"The cluster forbids {what} ({message}): give the account of connection '{conn_id}' the role in "
        "docs/kubernetes.md."
    )


def _contested(causes: list[dict[str, Any]], what: str) -> UserError:
    fields = ", ".join(sorted({str(cause.get("field")) for cause in causes}))
    owner = str(causes[0].get("message", "")).removeprefix("conflict with ")
    return UserError(
        f"Somebody else set {fields} (field manager {owner}), which forbids {what}: undo that change, or take the "
        "field over with kubectl apply --server-side --force-conflicts --field-manager=slipway, and deploy again."
    )


def unreachable(error: Exception, what: str, conn_id: str) -> Unavailable:
    """Return the exception to raise where no answer came."""
    reason = getattr(error, "reason", None)
    kind = type(reason if isinstance(reason, Exception) else error).__name__
    return Unavailable(
        f"The cluster of connection '{conn_id}' does not answer ({kind}) while {what}: check its address and the "
        "network."
    )


def explained(body: str | None) -> tuple[str, list[dict[str, Any]]]:
    """Return the message of an error answer, on one line, and the causes that it lists."""
    try:
        status = json.loads(body or "")
    except ValueError:
        status = None
    if not isinstance(status, dict) or "message" not in status:
        return " ".join((body or "no reason given").split())[:300], []
    causes = (status.get("details") or {}).get("causes") or []
    conflicts = [cause for cause in causes if cause.get("reason") == "FieldManagerConflict"]
    return " ".join(str(status["message"]).split())[:600], conflicts
