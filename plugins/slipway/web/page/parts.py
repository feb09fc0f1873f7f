"""Parts of a page that fail alone: what asks an outside service has a deadline, and threads of its own.

A page is put together from parts. When a service is away or slow, its part says so in one sentence and the others are
there. Each service has its own few threads, so one that hangs cannot hold up Airflow's, nor another's. A thread cannot
be stopped: one that hangs is left to its end, and a service that holds all of its threads like that is not asked again
before one comes back.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from slipway.errors import NotFound, SlipwayError

__all__ = ["Part", "ask"]

Value = TypeVar("Value")
_THREADS = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Part(Generic[Value]):
    """What a service answered, or why it did not; `missing` if it says that there is no such thing."""

    value: Value | None = None
    error: str | None = None
    missing: bool = False


@dataclass(frozen=True)
class _Threads:
    """The threads of one service, and those of its questions for whose answer nobody waits any more."""

    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(_THREADS, "page"))
    hanging: set[Future[Any]] = field(default_factory=set)

    def leave(self, question: Future[Any]) -> None:
        """Wait no longer: what has not begun never does, what has is remembered until it ends."""
        if not question.cancel() and not question.done():
            self.hanging.add(question)
            question.add_done_callback(self.hanging.discard)


_services: defaultdict[str, _Threads] = defaultdict(_Threads)


async def ask(service: str, function: Callable[..., Value], *arguments: Any, seconds: float = 8.0) -> Part[Value]:
    """Call a blocking function of a service's client and return its answer or its failure; this never raises.

    :param service: names the service for a reader, such as `MLflow`.
    :param seconds: how long the page waits.
    """
    threads = _services[service]
    if len(threads.hanging) >= _THREADS:
        return Part(error=f"{service} hangs: it still has {_THREADS} questions to answer, and is not asked any more.")
    question: Future[Value] = threads.pool.submit(copy_context().run, function, *arguments)
    try:
        answer: asyncio.Future[Value] = asyncio.wrap_future(question)
        return Part(await asyncio.wait_for(answer, seconds))
    except TimeoutError:
        return Part(error=f"{service} has not answered within {seconds:g} seconds.")
    except SlipwayError as e:
        return Part(error=str(e), missing=isinstance(e, NotFound))
    except Exception as e:  # noqa: BLE001  # whatever a service's client raises: the page goes on without that part
        _log.warning("Asking %s failed", service, exc_info=True)
        return Part(error=f"{service} cannot be asked ({type(e).__name__}): see the API server's log.")
    finally:
        threads.leave(question)
