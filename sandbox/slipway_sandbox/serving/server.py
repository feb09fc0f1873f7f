"""What the two kinds of server have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["Login", "Server", "ServingError"]


class ServingError(Exception):
    """A server that could not be started; one sentence."""


@dataclass(frozen=True)
class Login:
    """User and password of a registry."""

    user: str
    password: str = field(repr=False)


class Server(Protocol):
    """A scoring server that has been started."""

    @property
    def url(self) -> str:
        """Where it listens, or will listen, on this machine: `http://127.0.0.1:<port>`."""
        ...

    def exit_status(self) -> int | None:
        """Its exit status, or None while it runs."""
        ...

    def logs(self) -> list[str]:
        """The lines that it has written so far, standard output and error together."""
        ...

    def stop(self) -> None:
        """End it, politely at first, and remove what belongs to it. It may have ended by itself."""
        ...
