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

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    home: Path
    """folder of the host's state, models, logs and sockets; one host each"""
    host: str = "127.0.0.1"
    """address that the front door listens on"""
    port: _Port = 8700
    """port of the front door; 0: any free one"""
    admin_host: str = "127.0.0.1"
    """address that the admin API listens on"""
    admin_port: _Port = 8701
    """port of the admin API; 0: any free one"""
    admin_token: Annotated[str | None, Field(min_length=16)] = None
    """bearer token of the admin API; only in the environment"""
    admin_token_file: Path | None = None
    """file of that token, made (0600) if missing; default: `HOME/admin.token`"""
    public_url: Annotated[str | None, Field(pattern=r"^https?://[^/?#\s]+(/[^?#\s]*)?$")] = None
    """base URL that clients use; default: `http://HOST:PORT`"""
    scoring_home: Path = Path(__file__).resolve().parents[2] / "scoring"
    """folder that holds the package `slipway_scoring`"""
    environments_dir: Path | None = None
    """folder of the virtual environments, which others may share; default: `HOME/environments`"""
    tracking_uri: str | None = None
    """MLflow server of `mlflow-artifacts:` URIs; default: `MLFLOW_TRACKING_URI`"""
    pass_env: str = ""
    """comma-separated names of variables that scoring servers get from the host's own"""

    lease_seconds: _Seconds = 3600.0
    """a candidate not made live within this time is removed"""
    drain_seconds: _Seconds = 30.0
    """what is in flight at a switch has this long to end"""
    stop_seconds: _Seconds = 10.0
    """from SIGTERM to SIGKILL for a scoring server"""
    start_seconds: _Seconds = 120.0
    """a scoring server must be ready after this"""
    environment_seconds: _Seconds = 900.0
    """making an environment may take this long"""
    fetch_seconds: _Seconds = 1800.0
    """fetching a model's files may take this long"""

    health_interval_seconds: _Seconds = 5.0
    """pause between health checks"""
    health_timeout_seconds: _Seconds = 5.0
    """a health check fails after this"""
    health_failures: _Count = 3
    """failed checks in a row until a server is killed"""
    backoff_seconds: _Seconds = 0.5
    """first pause before a restart; it doubles each time"""
    backoff_max_seconds: _Seconds = 60.0
    """longest pause before a restart"""
    stable_seconds: _Seconds = 60.0
    """a server that was up this long starts again after the first pause"""

    collect_after_seconds: _Seconds = 7 * 86400.0
    """unused environments, models and logs older than this are removed"""
    collect_interval_seconds: _Seconds = 3600.0
    """pause between two collections"""
    log_bytes: _Count = 10 * 1024**2
    """size at which a scoring server's log is rotated"""
    log_files: _Count = 3
    """rotated logs kept for each deployment"""

    server_memory_bytes: _Count | None = None
    """limit of each server process's private memory (RLIMIT_DATA)"""
    server_open_files: _Count | None = None
    """limit of its open files (RLIMIT_NOFILE)"""
    server_connections: _Count = 256
    """connections to one server; more requests queue"""

    client_connections: _Count = 8192
    """clients connected at a time; more get 503"""
    replay_bytes: _Count = 65536
    """bodies up to this are held, and sent again if need be"""
    keep_alive_seconds: _Seconds = 75.0
    """an idle client connection is closed after this"""
    client_seconds: _Seconds = 60.0
    """a client that stalls is cut off after this"""
    answer_seconds: _Seconds = 300.0
    """a scoring server must go on answering within this; else 504"""

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
