"""What can be made to go wrong, switched on and off while the cluster runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

__all__ = ["ApiFault", "Faults"]


@dataclass
class ApiFault:
    """Answer requests with an error.

    :param status: the HTTP status: 403, 409, 429, 500, ….
    :param method: which requests; `.*` for all.
    :param path: a pattern that the path must contain.
    :param times: how many requests; None: all.
    """

    status: int
    method: str = ".*"
    path: str = ""
    times: int | None = None
    message: str = "injected by a test"


@dataclass
class Faults:
    """The faults of one cluster. Sets of images hold parts of image names."""

    pull: set[str] = field(default_factory=set)  # the registry refuses the image
    crash: set[str] = field(default_factory=set)  # the container's process ends with status 1
    sick: set[str] = field(default_factory=set)  # the container never gets ready
    unschedulable: bool = False
    quota: str | None = None  # the message with which new pods are refused
    progress_seconds: float | None = None  # in place of every progressDeadlineSeconds
    dropped_watches: int = 0  # so many watches break off after their first event
    api: list[ApiFault] = field(default_factory=list)

    def of(self, method: str, path: str) -> ApiFault | None:
        """Return the fault that a request meets, and count it."""
        for fault in self.api:
            if fault.times != 0 and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    def clear(self) -> None:
        """Switch all off."""
        self.__dict__.update(Faults().__dict__)
