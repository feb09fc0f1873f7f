"""Refusals, as the API server writes them.

Source: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/
"""

from __future__ import annotations

from typing import Any

__all__ = ["Refusal", "already_exists", "conflict", "forbidden", "invalid", "not_found", "success"]

_REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 405: "MethodNotAllowed",
    409: "Conflict", 410: "Expired", 415: "UnsupportedMediaType", 422: "Invalid", 429: "TooManyRequests",
    500: "InternalError", 503: "ServiceUnavailable",
}  # fmt: skip


class Refusal(Exception):
    """An answer that is no success."""

    def __init__(self, code: int, message: str, *, reason: str = "", details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason or _REASONS.get(code, "")
        self.details = details or {}

    @property
    def body(self) -> dict[str, Any]:
        """The `Status` object."""
        return {
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": str(self),
            "reason": self.reason, "details": self.details, "code": self.code,
        }  # fmt: skip


def not_found(what: str, name: str) -> Refusal:
    """`what` is the resource with its group, such as `deployments.apps`."""
    return Refusal(404, f'{what} "{name}" not found', details={"name": name, "kind": what})


def already_exists(what: str, name: str) -> Refusal:
    """A create of what is there."""
    details = {"name": name, "kind": what}
    return Refusal(409, f'{what} "{name}" already exists', reason="AlreadyExists", details=details)


def conflict(what: str, name: str, message: str, causes: list[dict[str, str]] | None = None) -> Refusal:
    """An outdated resourceVersion, or fields that others manage."""
    details: dict[str, Any] = {"name": name, "kind": what}
    return Refusal(409, message, details=details | ({"causes": causes} if causes else {}))


def forbidden(what: str, name: str, message: str) -> Refusal:
    """An admission that is refused."""
    return Refusal(403, f'{what} "{name}" is forbidden: {message}', details={"name": name, "kind": what})


def invalid(kind: str, name: str, problems: list[tuple[str, str]]) -> Refusal:
    """An object that breaks rules: each problem is a field and a message."""
    causes = [{"reason": "FieldValueInvalid", "message": message, "field": field} for field, message in problems]
    told = ", ".join(f"{field}: {message}" for field, message in problems)
    if len(problems) > 1:
        told = f"[{told}]"
    return Refusal(422, f'{kind} "{name}" is invalid: {told}', details={"name": name, "kind": kind, "causes": causes})


def success(name: str) -> dict[str, Any]:
    """The answer to a delete."""
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": {"name": name}}
