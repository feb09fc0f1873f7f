"""Long-running operations as Azure Machine Learning announces them.

A create answers 201 with `Azure-AsyncOperation`, a delete 202 with that and `Location`; the former is a status that is
asked until it is `Succeeded`, `Failed` or `Canceled`, the latter answers 202 until it is over
(https://github.com/Azure/azure-resource-manager-rpc/blob/master/v1.0/async-api-reference.md; the routes are those of
`Microsoft.MachineLearningServices/locations/{location}/mfeOperationsStatus`, api-version 2025-12-01).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from slipway_sandbox.azure.errors import ArmError, not_found
from slipway_sandbox.azure.settings import LOCATION, Settings

__all__ = ["Operation", "Operations"]

_PREFIX = "/subscriptions/{subscription}/providers/Microsoft.MachineLearningServices/locations/{location}"
_POLL_SECONDS = 1


@dataclass
class Operation:
    """One operation and how it stands."""

    id: str
    status: str = "InProgress"
    error: dict[str, object] | None = None
    task: asyncio.Task[None] | None = None


class Operations:
    """All operations of this sandbox; they run as tasks of the server's event loop."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._known: dict[str, Operation] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def routes(self) -> list[Route]:
        """Where clients ask how an operation stands."""
        return [
            Route(f"{_PREFIX}/mfeOperationsStatus/{{operation}}", self._status),
            Route(f"{_PREFIX}/mfeOperationResults/{{operation}}", self._result),
        ]

    def start(self, work: Coroutine[Any, Any, None]) -> Operation:
        """Begin an operation; an `ArmError` that `work` raises makes it fail."""
        operation = Operation(f"od:{uuid.uuid4()}")
        self._known[operation.id] = operation
        task = asyncio.get_running_loop().create_task(self._run(operation, work))
        operation.task = task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation

    async def override(self, operation: Operation | None) -> None:
        """End an operation because one of higher priority comes, as a delete does."""
        if operation and operation.task and not operation.task.done():
            operation.task.cancel()
            await asyncio.gather(operation.task, return_exceptions=True)
            message = "Operation was canceled by another operation which has a higher priority."
            operation.error = {"code": "OperationCanceled", "message": message}

    async def cancel(self) -> None:
        """End all that run."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def headers(self, operation: Operation, *, location: bool = False) -> dict[str, str]:
        """Return the headers that announce an operation."""
        prefix = _PREFIX.format(subscription=self.settings.subscription, location=LOCATION)
        query = "?api-version=2025-12-01"
        named = {
            "Azure-AsyncOperation": f"{self.settings.url}{prefix}/mfeOperationsStatus/{operation.id}{query}",
            "x-ms-async-operation-timeout": "PT1H30M",
            "Retry-After": str(_POLL_SECONDS),
        }
        if location:
            named["Location"] = f"{self.settings.url}{prefix}/mfeOperationResults/{operation.id}{query}"
        return named

    async def _run(self, operation: Operation, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except ArmError as e:
            operation.status, operation.error = "Failed", e.body
        except asyncio.CancelledError:
            operation.status = "Canceled"
            raise
        except Exception as e:  # noqa: BLE001  # a client must see that the sandbox itself is at fault
            operation.status, operation.error = "Failed", {"code": "InternalServerError", "message": repr(e)}
        else:
            operation.status = "Succeeded"

    def _find(self, request: Request) -> Operation:
        operation = self._known.get(request.path_params["operation"])
        if operation is None:
            raise not_found("operation", request.path_params["operation"])
        return operation

    async def _status(self, request: Request) -> JSONResponse:
        operation = self._find(request)
        body: dict[str, Any] = {"id": request.url.path, "name": operation.id, "status": operation.status}
        if operation.error:
            body["error"] = operation.error
        headers = {"Retry-After": str(_POLL_SECONDS)} if operation.status == "InProgress" else {}
        return JSONResponse(body, headers=headers)

    async def _result(self, request: Request) -> Response:
        operation = self._find(request)
        if operation.status == "InProgress":
            return Response(status_code=202, headers=self.headers(operation, location=True))
        if operation.error:
            return JSONResponse({"error": operation.error}, 400)
        return Response(status_code=204)
