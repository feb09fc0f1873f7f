"""Ask the application without a socket: the App object that a worker runs, behind a stand-in for Granian's wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import uvloop

from slipway_scoring.loaders import load
from slipway_scoring.logs import RequestLog
from slipway_scoring.scoreboard import Scoreboard
from slipway_scoring.settings import Settings
from slipway_scoring.worker import Place, make_app

Result = TypeVar("Result")


@dataclass
class Answer:
    """A response."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class _Scope:
    method: str
    path: str
    headers: dict[str, str]
    proto: str = "http"


@dataclass
class _Protocol:
    body: bytes
    answers: list[Answer] = field(default_factory=list)

    def __call__(self) -> Coroutine[Any, Any, bytes]:
        async def read() -> bytes:
            await asyncio.sleep(0)
            return self.body

        return read()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self.body), 1024):
            await asyncio.sleep(0)
            yield self.body[start : start + 1024]

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answers.append(Answer(status, dict(headers), body))

    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None:
        self.answers.append(Answer(status, dict(headers), b""))


class InProcess:
    """One application on an event loop of its own; `with InProcess(directory) as server: server.ask(…)`."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        self._directory = directory
        self._settings = Settings(model=str(directory), access_log="off", **settings)

    def __enter__(self) -> InProcess:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self.model = load(self._directory)
        self.run(self._make())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._runner.close()

    async def _make(self) -> None:
        place = Place(0, self._settings, None, Scoreboard(1))  # type: ignore[arg-type] -- never listens
        self.app, self.scorer = make_app(place, self.model, RequestLog({}, everything=False))
        self.scorer.warm_up()

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        """Run a coroutine on the application's loop."""
        return self._runner.run(work)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        *,
        chunked: bool = False,
    ) -> Answer:
        """One request; `chunked` announces no length."""
        length = {} if chunked else {"content-length": str(len(body))}
        protocol = _Protocol(body)
        await self.app.__rsgi__(_Scope(method, path, {**length, **(headers or {})}), protocol)
        assert len(protocol.answers) == 1, "a request has one answer"
        return protocol.answers[0]

    def ask(
        self, method: str, path: str, body: Any = b"", headers: Mapping[str, str] | None = None, **more: Any
    ) -> Answer:
        """One request, and wait; a body that is no bytes is sent as JSON."""
        if not isinstance(body, bytes):
            body, headers = json.dumps(body).encode(), {"content-type": "application/json", **(headers or {})}
        return self.run(self.send(method, path, body, headers, **more))

    def predict(self, body: Any, **headers: str) -> Any:
        """The predictions of /invocations, which must accept the body."""
        answer = self.ask("POST", "/invocations", body, headers)
        assert answer.status == 200, answer.body
        return answer.json()["predictions"]

    def refusal(self, body: Any, path: str = "/invocations", **headers: str) -> str:
        """The message with which the server refuses a bad body: 400, MLflow's shape, one line."""
        answer = self.ask("POST", path, body, headers)
        assert answer.status == 400, (answer.status, answer.body)
        document = answer.json()
        assert set(document) == {"error_code", "message"}
        assert "Traceback" not in document["message"]
        assert "\n" not in document["message"]
        return str(document["message"])
