"""Faults that a test or a curious user switches on: throttling, refusals, slowness, answers that never come."""

from __future__ import annotations

import threading
import time
from collections import Counter
from dataclasses import asdict, dataclass, fields
from fnmatch import fnmatchcase
from typing import Any, Literal

from slipway_sandbox.aws.protocol import AwsError

__all__ = ["Fault", "Faults", "strike"]

_STATUS = {"AccessDeniedException": 400, "ServiceUnavailable": 503, "InternalFailure": 500}


@dataclass
class Fault:
    """What happens to calls of an operation.

    :param operation: pattern of `service:Operation`, such as `sagemaker:UpdateEndpoint`, `s3:PUT` or `*`.
    :param skip: let so many matching calls pass first: `fail at step N` is `{"operation": "*", "skip": N}`.
    :param times: how many calls it then happens to; None: all.
    :param error: the error's code, such as `ThrottlingException`; empty: none, only the delay.
    :param message: the error's text.
    :param delay: seconds until the call is answered.
    :param when: whether the delay and the error come before or after the call has had its effect.
    """

    operation: str = "*"
    skip: int = 0
    times: int | None = None
    error: str = ""
    message: str = "This fault was switched on in the sandbox."
    delay: float = 0.0
    when: Literal["before", "after"] = "before"


class Faults:
    """The faults that are on, and a count of every call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._on: list[Fault] = []
        self._calls: Counter[str] = Counter()

    def put(self, wanted: list[dict[str, Any]]) -> None:
        """Replace what is on.

        :raises ValueError: if a fault has an unknown key.
        """
        known = {field.name for field in fields(Fault)}
        for one in wanted:
            if unknown := set(one) - known:
                raise ValueError(f"A fault has no {sorted(unknown)}: it has {sorted(known)}.")
        with self._lock:
            self._on = [Fault(**one) for one in wanted]

    def listed(self) -> list[dict[str, Any]]:
        """Return what is on, with what is left of its counts."""
        with self._lock:
            return [asdict(fault) for fault in self._on]

    def calls(self, *, reset: bool = False) -> dict[str, int]:
        """Return how often each operation was called since the last reset."""
        with self._lock:
            found = dict(self._calls)
            if reset:
                self._calls.clear()
            return found

    def match(self, operation: str) -> Fault | None:
        """Count a call, and return the fault that happens to it."""
        with self._lock:
            self._calls[operation] += 1
            for fault in self._on:
                if not fnmatchcase(operation, fault.operation) or fault.times == 0:
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None


def strike(fault: Fault | None, when: Literal["before", "after"]) -> None:
    """Let a fault happen, if it is of this time.

    :raises AwsError: the fault's error.
    """
    if fault is None or fault.when != when:
        return
    time.sleep(fault.delay)
    if fault.error:
        raise AwsError(fault.error, fault.message, _STATUS.get(fault.error, 400))
