"""What containers are created with: the least rights that a scoring server can do with, and the limits asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from slipway.containers import names
from slipway.errors import UserError

__all__ = ["ServerSpec", "confined", "parse_cpus", "parse_env", "parse_memory"]

USER = "10001:10001"
STOP_SECONDS = 45
"""The server drains for at most 30 s."""
_UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_MEMORY = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]?)i?b?", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_LEAST_MEMORY = 6 * 2**20
# They are the deploy's to set.
_OURS = {"SLIPWAY_SCORING_UDS", "SLIPWAY_SCORING_MODEL", "SLIPWAY_MODEL_NAME", "SLIPWAY_MODEL_VERSION"}


@dataclass(frozen=True)
class ServerSpec:
    """One deployment's container.

    :param cpus: number of CPUs, or None for all.
    :param memory: bytes, or None for no limit.
    """

    endpoint: str
    deployment: str
    model: str
    version: str
    image: str
    cpus: float | None = None
    memory: int | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The container's name."""
        return names.server_name(self.endpoint, self.deployment)

    @property
    def labels(self) -> dict[str, str]:
        """By which the container is found again."""
        return {
            names.ENDPOINT_LABEL: self.endpoint,
            names.DEPLOYMENT_LABEL: self.deployment,
            names.MODEL_LABEL: self.model,
            "slipway.version": self.version,
        }

    @property
    def environment(self) -> dict[str, str]:
        """The server's variables."""
        return {
            **self.env,
            "SLIPWAY_SCORING_UDS": f"{names.HOME}/{self.deployment}.sock",
            "SLIPWAY_MODEL_NAME": self.model,
            "SLIPWAY_MODEL_VERSION": self.version,
        }

    @property
    def limits(self) -> dict[str, Any]:
        """The limits, as docker-py names them. Without swap: a server that swaps does not answer in time."""
        limits: dict[str, Any] = {"pids_limit": 4096}
        if self.cpus is not None:
            limits["nano_cpus"] = int(self.cpus * 1e9)
        if self.memory is not None:
            limits |= {"mem_limit": self.memory, "memswap_limit": self.memory}
        return limits


def confined(endpoint: str) -> dict[str, Any]:
    """Return the host configuration that all containers of an endpoint share, as docker-py names it."""
    return {
        "binds": [f"{names.volume_name(endpoint)}:{names.HOME}"],
        # A container's first process ignores SIGTERM until it handles it: one that is stopped while it starts would be
        # waited for until it is killed.
        "init": True,
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "tmpfs": {"/tmp": "rw,noexec,nosuid,nodev"},  # noqa: S108  # the container's own
        "log_config": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "3"}},
    }


def parse_cpus(value: Any) -> float | None:
    """Return a number of CPUs such as 0.5, or None.

    :raises UserError: if it is no such number.
    """
    if value in {None, ""}:
        return None
    try:
        cpus = float(value)
    except (TypeError, ValueError):
        cpus = 0.0
    if not 0.01 <= cpus <= 4096:
        raise UserError(f"cpus is {value!r}: give a number of CPUs such as 0.5 or 2.")
    return cpus


def parse_memory(value: Any) -> int | None:
    """Return bytes for an amount such as `512m` or `2Gi`, or None.

    :raises UserError: if it is no such amount, or less than an engine takes.
    """
    if value in {None, ""}:
        return None
    found = _MEMORY.fullmatch(str(value).strip())
    amount = int(float(found[1]) * _UNITS[found[2].lower()]) if found else 0
    if amount < _LEAST_MEMORY:
        raise UserError(f"memory is {value!r}: give an amount of at least 6m, such as 512m or 2g.")
    return amount


def parse_env(value: Any) -> dict[str, str]:
    """Return variables for a server.

    :raises UserError: if it is no object of text values, or sets what the deploy sets itself.
    """
    if not value:
        return {}
    if not isinstance(value, dict) or not all(isinstance(text, (str, int, float)) for text in value.values()):
        raise UserError('env must be an object of texts, such as {"SLIPWAY_SCORING_WORKERS": "2"}.')
    wrong = [name for name in value if not _VARIABLE.fullmatch(str(name)) or name in _OURS]
    if wrong:
        raise UserError(f"env sets {wrong[0]!r}, which is no variable's name or is set by the deploy: leave it out.")
    return {name: str(text) for name, text in value.items()}
