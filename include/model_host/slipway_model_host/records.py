"""What the host knows of endpoints and deployments, as it is kept on disk."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from .errors import invalid

State = Literal["preparing", "starting", "ready", "live", "draining", "stopped", "failed"]
PENDING: frozenset[State] = frozenset({"preparing", "starting"})

_ENDPOINT = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
_DEPLOYMENT = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
# Variables by which a deployment could take over the interpreter or speak for the host.
_RESERVED = re.compile(r"(SLIPWAY_|PYTHON|LD_|MODEL_HOST_).*|PATH|HOME|TMPDIR")

_Text = Annotated[str, Field(min_length=1, max_length=2048, pattern=r"^[^\x00-\x1f\x7f]+$")]


def check_endpoint(name: str) -> str:
    """Return `name` if it may name an endpoint, else raise 400; it becomes part of paths and URLs."""
    if not _ENDPOINT.fullmatch(name):
        raise invalid(
            f"'{name[:80]}' cannot name an endpoint: use 1 to 63 lower-case letters, digits and hyphens, "
            "a letter first and no hyphen last."
        )
    return name


def check_deployment(name: str) -> str:
    """Return `name` if it may name a deployment, else raise 400; it becomes part of file names."""
    if not _DEPLOYMENT.fullmatch(name) or ".." in name:
        raise invalid(
            f"'{name[:80]}' cannot name a deployment: use 1 to 128 letters, digits, '.', '_' and '-', "
            "with a letter or digit at both ends and no '..'."
        )
    return name


class Spec(BaseModel):
    """What a deployment is to serve, as the client of the admin API says it; equal specs are the same deployment."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    model: _Text
    version: _Text
    model_uri: _Text
    artifact_uri: _Text
    lock_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    auth: Literal["none", "token"] = "none"
    workers: Annotated[int, Field(ge=1, le=64)] = 1
    env: Annotated[dict[str, Annotated[str, Field(max_length=32768)]], Field(max_length=64)] = {}

    @field_validator("env")
    @classmethod
    def _harmless(cls, env: dict[str, str]) -> dict[str, str]:
        for name, value in env.items():
            if not _VARIABLE.fullmatch(name) or _RESERVED.fullmatch(name) or "\0" in value:
                raise ValueError(
                    f"variable '{name[:80]}' is malformed or reserved (SLIPWAY_*, PYTHON*, LD_*, MODEL_HOST_*, PATH, …)"
                )
        return env


class DeploymentRecord(BaseModel):
    """One deployment of an endpoint."""

    id: str
    spec: Spec
    state: State = "preparing"
    error: str | None = None
    passing: bool = False
    created_at: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))
    leased_at: float = Field(default_factory=time.time)
    environment: str | None = None
    model_dir: str | None = None
    restarts: int = 0
    log_tail: list[str] = []


class EndpointRecord(BaseModel):
    """One endpoint: its deployments, which of them is live, which was live before, and its bearer token."""

    name: str
    live: str | None = None
    previous: str | None = None
    token: str | None = None
    deployments: dict[str, DeploymentRecord] = {}
