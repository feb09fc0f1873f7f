"""The one error type of the host; both listeners answer it as MLflow does: `{"error_code", "message"}`."""

from __future__ import annotations

import json


class HostError(Exception):
    """A request that cannot be served, said in one sentence.

    Args:
        status: the HTTP status that both listeners answer with.
        code: MLflow's name for the kind of error, e.g. `RESOURCE_DOES_NOT_EXIST`.
        message: one sentence: the thing, the rule, the remedy.
        retry_after: whole seconds for the `Retry-After` header, if trying again makes sense.
    """

    def __init__(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.retry_after = retry_after

    def body(self) -> bytes:
        """The JSON document of the answer."""
        return json.dumps({"error_code": self.code, "message": self.message}).encode()


def not_found(message: str) -> HostError:
    """404: the thing named in the path does not exist."""
    return HostError(404, "RESOURCE_DOES_NOT_EXIST", message)


def invalid(message: str) -> HostError:
    """400: the request itself breaks a rule."""
    return HostError(400, "INVALID_PARAMETER_VALUE", message)


def conflict(message: str, code: str = "RESOURCE_CONFLICT") -> HostError:
    """409: the request is fine, the present state does not allow it."""
    return HostError(409, code, message)


def unavailable(message: str, retry_after: int) -> HostError:
    """503: a scoring server is away; it comes back by itself."""
    return HostError(503, "TEMPORARILY_UNAVAILABLE", message, retry_after)


class DeploymentFailure(Exception):
    """Why a deployment cannot serve, in one sentence: what failed, why, what to do."""
