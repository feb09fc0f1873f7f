"""Airflow's API server, with its audit log written off the event loop: `python airflow_api_server.py`.

Airflow 3.3 records each user's action in its database from a coroutine (`action_logging` in
airflow/api_fastapi/logging/decorators.py), so on the event loop. SQLite has one writer at a time: if another request
is that writer, and waits for the event loop to finish and commit, both wait for each other until SQLite's timeout,
and one of them answers 500. Two clients that trigger an action in the same moment are enough. In a thread of its own
the record waits for nobody that waits for it. Databases with many writers do not need this.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

import anyio.to_thread
from fastapi import Request

Maker = TypeVar("Maker", bound=Callable[..., Callable[..., Awaitable[None]]])


def in_thread(action_logging: Maker) -> Maker:
    """Airflow's maker of audit log dependencies, with each of them run in a thread."""

    @functools.wraps(action_logging)
    def make(event: str | None = None) -> Callable[..., Awaitable[None]]:
        log_action = action_logging(event)

        # The signature is kept: FastAPI reads from it what to pass.
        @functools.wraps(log_action)
        async def log_in_thread(request: Request, session: Any, user: Any) -> None:
            # Read here, where the connection is; after that the coroutine awaits nothing of this event loop.
            await request.body()
            await anyio.to_thread.run_sync(_complete, functools.partial(log_action, request, session, user))

        return log_in_thread

    return cast("Maker", make)


def _complete(start: Callable[[], Awaitable[None]]) -> None:
    async def wait() -> None:
        await start()

    asyncio.run(wait())


def main() -> None:
    """Become `airflow api-server`."""
    from airflow.__main__ import main as airflow
    from airflow.api_fastapi.logging import decorators

    # Before the routes are imported, which take the function by name.
    decorators.action_logging = in_thread(decorators.action_logging)
    sys.argv = ["airflow", "api-server"]
    airflow()


if __name__ == "__main__":
    main()
