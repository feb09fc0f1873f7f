"""An ASGI app that is made when the first request comes.

Airflow imports the plugin in every process; FastAPI and what the app needs belong in the API server alone.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from importlib import import_module
from threading import Lock
from typing import Any

__all__ = ["App", "LazyApp", "Message"]

Message = MutableMapping[str, Any]
App = Callable[[Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]


class LazyApp:
    """Stands for the app that `module:function` makes.

    :param maker: where to find the function, which takes nothing.
    """

    def __init__(self, maker: str) -> None:
        self._maker = maker
        self._app: App | None = None
        self._lock = Lock()

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Serve one request (https://asgi.readthedocs.io/en/latest/specs/main.html)."""
        await self._made()(scope, receive, send)

    def _made(self) -> App:
        with self._lock:
            if self._app is None:
                module, _, function = self._maker.partition(":")
                self._app = getattr(import_module(module), function)()
            return self._app
