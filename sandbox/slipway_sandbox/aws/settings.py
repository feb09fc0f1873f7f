"""What the sandbox is told once, at its start, and what can be changed while it runs (`PUT /_sandbox/settings`)."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypedDict

from slipway_sandbox.serving import container
from slipway_stack.settings import Stack

__all__ = ["ACCOUNT", "Behaviour", "Outcome", "Place"]

# The account that moto gives to every key that it does not know.
ACCOUNT = "123456789012"
_LOOK_SECONDS = 0.25


@dataclass(frozen=True)
class Place:
    """Where the sandbox runs."""

    folder: Path
    environments: Path
    # Containers where a Docker Engine answers, else processes.
    containers: bool = field(default_factory=container.engine_is_there)

    @classmethod
    def default(cls, *, processes: bool = False) -> Place:
        """The place of `make sandbox-aws`: beside the stack of `make demo`.

        :param processes: serve from processes, even where there is an engine.
        """
        stack = Stack.from_environment()
        containers = not processes and container.engine_is_there()
        return cls(stack.home / "sandbox-aws", stack.environments, containers)


class Outcome(TypedDict, total=False):
    """How the next roll-outs of an endpoint end, whatever its container does."""

    outcome: Literal["fail", "silent_rollback"]
    reason: str


@dataclass
class Behaviour:
    """What a real cloud decides for itself; here one says it."""

    # Of the waits that a deployment asks for, and of the time limit of a health check: 1.0 is a real cloud's pace.
    time_scale: float = 0.02
    # How long an instance takes to come, beside the container's own start. Seconds.
    provision_seconds: float = 0.0
    delete_seconds: float = 0.0
    # How long a container has to answer /ping (real: 4 minutes by default), and an invocation (real: 60 s). Seconds.
    health_check_seconds: float = 240.0
    invocation_seconds: float = 60.0
    # How often a model or configuration that has just been made is not found by a call that is to use it: SageMaker
    # promises no more (https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpoint.html).
    stale_reads: int = 0
    # Most instances of a type; a type that is not named has no limit.
    quota: dict[str, int] = field(default_factory=dict)
    # By endpoint name, or `*`.
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def update(self, changes: dict[str, Any]) -> None:
        """Change some of it.

        :raises ValueError: if there is no such setting.
        """
        known = {one.name for one in fields(self)}
        if unknown := set(changes) - known:
            raise ValueError(f"There is no setting {sorted(unknown)}: there are {sorted(known)}.")
        for name, value in changes.items():
            setattr(self, name, value)

    def provision(self) -> None:
        """Take the time that an instance takes to come. A change of it counts for those that are on their way, too."""
        began = time.monotonic()
        while (left := began + self.provision_seconds - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_SECONDS))

    def listed(self) -> dict[str, Any]:
        """Return all of it."""
        return asdict(self)

    def outcome(self, endpoint: str) -> Outcome:
        """Return what was ordered for an endpoint; empty if nothing."""
        return self.outcomes.get(endpoint) or self.outcomes.get("*") or {}
