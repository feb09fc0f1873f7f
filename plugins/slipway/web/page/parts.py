"""Parts of a page that fail alone: what asks an outside service has a deadline, and threads of its own.

A page is put together from parts. When a service is away or slow, its part says so in one sentence and the others are
there. Each service has its own few threads, so one that hangs cannot hold up Airflow's, nor another's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from weakref import WeakKeyDictionary

from anyio import CapacityLimiter, to_thread

from slipway.errors import NotFound, SlipwayError

__all__ = ["Part", "ask"]

Value = TypeVar("Value")
_THREADS = 8
_log = logging.getLogger(__name__)
_limiters: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, CapacityLimiter]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Part(Generic[Value]):
    """What a service answered, or why it did not; `missing` if it says that there is no such thing."""

    value: Value | None = None
    error: str | None = None
    missing: bool = False


async def ask(service: str, function: Callable[..., Value], *arguments: Any, seconds: float = 8.0) -> Part[Value]:
    """Call a blocking function of a service's client and return its answer or its failure; this never raises.

    :param service: names the service for a reader, such as `MLflow`.
    :param seconds: how long the page waits; a thread that hangs is left behind.
    """
    limiter = _limiters.setdefault(asyncio.get_running_loop(), {}).setdefault(service, CapacityLimiter(_THREADS))
    try:
        call = to_thread.run_sync(lambda: function(*arguments), limiter=limiter, abandon_on_cancel=True)
        return Part(await asyncio.wait_for(call, seconds))
    except TimeoutError:
        return Part(error=f"{service} has not answered within {seconds:g} seconds.")
    except SlipwayError as e:
        return Part(error=str(e), missing=isinstance(e, NotFound))
    except Exception as e:  # noqa: BLE001  # whatever a service's client raises: the page goes on without that part
        _log.warning("Asking %s failed", service, exc_info=True)
        return Part(error=f"{service} cannot be asked ({type(e).__name__}): see the API server's log.")
