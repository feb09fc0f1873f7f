"""Every setting of the host, named once: field `drain_seconds` is `MODEL_HOST_DRAIN_SECONDS` and `--drain-seconds`."""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

PREFIX = "MODEL_HOST_"
_Port = Annotated[int, Field(ge=0, le=65535)]
_Seconds = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(ge=1)]

# A flag shows in the process list, an environment variable does not.
_ENVIRONMENT_ONLY = {"admin_token"}


class Config(BaseModel):
    """The host's settings; times in seconds, sizes in bytes."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    home: Annotated[Path, Field(description="folder of the host's state, models, logs and sockets; one host each")]
    host: Annotated[str, Field(description="address that the front door listens on")] = "127.0.0.1"
    port: Annotated[_Port, Field(description="port of the front door; 0: any free one")] = 8700
    admin_host: Annotated[str, Field(description="address that the admin API listens on")] = "127.0.0.1"
    admin_port: Annotated[_Port, Field(description="port of the admin API; 0: any free one")] = 8701
    admin_token: Annotated[str | None, Field(min_length=16, description="bearer token of the admin API")] = None
    admin_token_file: Annotated[
        Path | None, Field(description="file of that token, made (0600) if missing; default: HOME/admin.token")
    ] = None
    public_url: Annotated[
        str | None, Field(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$", description="base URL that clients use")
    ] = None
    scoring_home: Annotated[Path, Field(description="folder that holds the package slipway_scoring")] = (
        Path(__file__).resolve().parents[2] / "scoring"
    )
    environments_dir: Annotated[
        Path | None, Field(description="folder of the virtual environments; default: HOME/environments")
    ] = None
    tracking_uri: Annotated[
        str | None, Field(description="MLflow server of `mlflow-artifacts:` URIs; default: MLFLOW_TRACKING_URI")
    ] = None
    pass_env: Annotated[
        str, Field(description="comma-separated names of variables that scoring servers get from the host's own")
    ] = ""
    lease_seconds: Annotated[_Seconds, Field(description="a candidate not made live within this time is removed")] = (
        1800.0
    )
    drain_seconds: Annotated[_Seconds, Field(description="what is in flight at a switch has this long to end")] = 30.0
    stop_seconds: Annotated[_Seconds, Field(description="from SIGTERM to SIGKILL for a scoring server")] = 10.0
    start_seconds: Annotated[_Seconds, Field(description="a scoring server must be ready after this")] = 120.0
    environment_seconds: Annotated[_Seconds, Field(description="making an environment may take this long")] = 900.0
    fetch_seconds: Annotated[_Seconds, Field(description="fetching a model's files may take this long")] = 1800.0
    health_interval_seconds: Annotated[_Seconds, Field(description="pause between health checks")] = 5.0
    health_timeout_seconds: Annotated[_Seconds, Field(description="a health check fails after this")] = 5.0
    health_failures: Annotated[_Count, Field(description="failed checks in a row until a server is killed")] = 3
    backoff_seconds: Annotated[_Seconds, Field(description="first pause before a restart; doubles each time")] = 0.5
    backoff_max_seconds: Annotated[_Seconds, Field(description="longest pause before a restart")] = 60.0
    stable_seconds: Annotated[_Seconds, Field(description="a server up this long starts again at the first pause")] = (
        60.0
    )
    collect_after_seconds: Annotated[
        _Seconds, Field(description="unused environments and models older than this are removed")
    ] = 7 * 86400.0
    collect_interval_seconds: Annotated[_Seconds, Field(description="pause between two collections")] = 3600.0
    log_bytes: Annotated[_Count, Field(description="size at which a scoring server's log is rotated")] = 10 * 1024**2
    log_files: Annotated[_Count, Field(description="rotated logs kept for each deployment")] = 3
    server_memory_bytes: Annotated[
        int | None, Field(ge=1, description="limit of each server process's private memory (RLIMIT_DATA)")
    ] = None
    server_open_files: Annotated[int | None, Field(ge=64, description="limit of its open files (RLIMIT_NOFILE)")] = None
    server_connections: Annotated[_Count, Field(description="connections to one server; more requests queue")] = 256
    client_connections: Annotated[_Count, Field(description="clients connected at a time; more get 503")] = 8192
    replay_bytes: Annotated[_Count, Field(description="bodies up to this are held, and sent again if need be")] = 65536
    keep_alive_seconds: Annotated[_Seconds, Field(description="an idle client connection is closed after this")] = 75.0
    client_seconds: Annotated[_Seconds, Field(description="a client that stalls is cut off after this")] = 60.0
    answer_seconds: Annotated[_Seconds, Field(description="a server must go on answering within this; else 504")] = (
        300.0
    )

    @field_validator("home", "environments_dir", "scoring_home", "admin_token_file")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    @property
    def environments(self) -> Path:
        """The folder of the virtual environments."""
        return self.environments_dir or self.home / "environments"

    @property
    def token_file(self) -> Path:
        """The file of the admin token."""
        return self.admin_token_file or self.home / "admin.token"


def read_config(arguments: Sequence[str], environ: Mapping[str, str]) -> Config:
    """The settings from flags, then the environment, then the defaults.

    Raises:
        SystemExit: with one sentence, for a value that breaks a rule.
    """
    parser = argparse.ArgumentParser(
        prog="slipway_model_host", description="Serve models on this machine.", allow_abbrev=False
    )
    for name, field in Config.model_fields.items():
        if name not in _ENVIRONMENT_ONLY:
            default = "" if field.is_required() or field.default is None else f" (default: {field.default})"
            help_text = f"{field.description}{default}".replace("%", "%%")
            parser.add_argument(f"--{name.replace('_', '-')}", default=argparse.SUPPRESS, help=help_text)
    given = {
        name: value for name in Config.model_fields if (value := environ.get(PREFIX + name.upper(), "")) != ""
    } | vars(parser.parse_args(arguments))
    given.setdefault("tracking_uri", environ.get("MLFLOW_TRACKING_URI") or None)
    try:
        return Config.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        flag = "" if name in _ENVIRONMENT_ONLY else f" (--{name.replace('_', '-')})"
        raise SystemExit(f"{PREFIX}{name.upper()}{flag} is not usable: {first['msg']}; set it anew.") from None


def environment_for_tools() -> dict[str, str]:
    """The host's environment for its own tools (uv, mlflow), without the host's secrets."""
    return {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
