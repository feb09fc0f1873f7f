"""Every way in which the server says no: an HTTP status, MLflow's error code, and one sentence.

The body has MLflow's shape, ``{"error_code": …, "message": …}``
(https://mlflow.org/docs/latest/api_reference/rest-api.html#error-codes).
"""

from __future__ import annotations


class ScoringError(Exception):
    """Refuses one request. Subclasses fix the status; `retry_after` is in seconds."""

    status = 400
    error_code = "BAD_REQUEST"
    retry_after: int | None = None

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class BadPayload(ScoringError):
    """The body is not what its content type or the model's signature asks for."""


class Unauthenticated(ScoringError):
    """The bearer token is missing or wrong."""

    status = 401
    error_code = "UNAUTHENTICATED"


class NotFound(ScoringError):
    """No such path, model or version."""

    status = 404
    error_code = "ENDPOINT_NOT_FOUND"


class MethodNotAllowed(ScoringError):
    """The path exists, the method does not."""

    status = 405
    error_code = "BAD_REQUEST"

    def __init__(self, message: str, allow: str) -> None:
        super().__init__(message)
        self.allow = allow


class NotAcceptable(ScoringError):
    """`Accept` names no format that the server can write."""

    status = 406


class TooLarge(ScoringError):
    """More bytes or rows than the server takes in one request."""

    status = 413


class UnsupportedMediaType(ScoringError):
    """A content type, charset or encoding that no codec reads."""

    status = 415


class Overloaded(ScoringError):
    """The queue is full; nothing was done, so the client may send it again."""

    status = 429
    error_code = "REQUEST_LIMIT_EXCEEDED"
    retry_after = 1


class ModelBroken(ScoringError):
    """The model fails on its own golden sample, so this is no client's mistake."""

    status = 500
    error_code = "INTERNAL_ERROR"


class NotReady(ScoringError):
    """The model is not loaded, cannot predict, or the server is about to stop."""

    status = 503
    error_code = "TEMPORARILY_UNAVAILABLE"
    retry_after = 1


class TimedOut(ScoringError):
    """No prediction within the time limit."""

    status = 504
    error_code = "DEADLINE_EXCEEDED"
