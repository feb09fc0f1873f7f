"""Azure Resource Manager's errors on the wire: `{"error": {"code": …, "message": …}}`
(https://github.com/cloud-and-ai-microsoft/resource-provider-contract/blob/master/v1.0/common-api-details.md#error-response-content).
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse

__all__ = ["ArmError", "as_response", "not_found"]


class ArmError(Exception):
    """An answer that says no."""

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}

    @property
    def body(self) -> dict[str, object]:
        """The error as it stands in an operation's status."""
        return {"code": self.code, "message": self.message}


def not_found(kind: str, name: str) -> ArmError:
    """Return the error for a resource that is not there."""
    return ArmError(404, "ResourceNotFound", f"The {kind} '{name}' was not found.")


async def as_response(request: Request, error: Exception) -> JSONResponse:  # noqa: ARG001  # Starlette's signature
    """Answer with an `ArmError`."""
    assert isinstance(error, ArmError)  # noqa: S101  # registered for it alone
    return JSONResponse({"error": error.body}, error.status, error.headers)
