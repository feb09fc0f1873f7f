"""Every setting of the server: a flag, an environment variable, a default. Named once, here; README.md shows the table.

A flag beats its environment variable, which beats the default.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

PREFIX = "SLIPWAY_SCORING_"
_AZUREML_PORT = 5001


class SettingsError(Exception):
    """A setting that cannot be used; one sentence."""


def _setting(default: Any, help_text: str, *, env: str | None = None, least: float | None = None) -> Any:
    return field(default=default, metadata={"help": help_text, "env": env, "least": least})


@dataclass(frozen=True)
class Settings:
    """How to serve one model."""

    model: str = _setting("", "model directory or MLflow URI (default: `$AZUREML_MODEL_DIR`, else `/opt/ml/model`)")
    host: str = _setting("127.0.0.1", "address to listen on; 0.0.0.0 in a container")
    port: int = _setting(
        8080,
        "port (default: `$SAGEMAKER_BIND_TO_PORT`; 5001 where `$AZUREML_MODEL_DIR` is set; else 8080)",
        least=0,
    )
    uds: str = _setting("", "path of a Unix domain socket to listen on instead of host and port")
    workers: int = _setting(1, "worker processes that share the port", least=1)
    threads: int = _setting(0, "BLAS, OpenMP and tree-library threads a worker (0: its share of the CPUs)", least=0)
    root_path: str = _setting("", "path prefix under which a proxy serves this server")
    max_body_bytes: int = _setting(64 * 2**20, "largest request body, compressed or not", least=1)
    max_rows: int = _setting(1_000_000, "most rows in one request", least=1)
    max_queue: int = _setting(512, "most requests that wait in one worker; more get 429", least=1)
    max_wait: float = _setting(
        0.25, "seconds that a request may be expected to wait for the model; more get 429", least=0
    )
    time_limit: float = _setting(60.0, "seconds from request to answer; beyond that 504", least=0.001)
    hang_limit: float = _setting(120.0, "seconds after which a worker that does not react is replaced", least=0.1)
    drain_time: float = _setting(30.0, "most seconds that open requests get at SIGTERM", least=0)
    batching: str = _setting("auto", "`auto`: the model's own policy; `on`; `off`")
    access_log: str = _setting("on", "`on`: one JSON line a request on stderr; `off`: failed requests alone")
    tls_cert: str = _setting("", "PEM file of the certificate chain; with `tls_key` the server speaks HTTPS")
    tls_key: str = _setting("", "PEM file of the private key")
    token: str = _setting("", "bearer token that every route but health asks for (environment only)")

    @classmethod
    def read(cls, arguments: Sequence[str], environment: Mapping[str, str] = os.environ) -> Settings:
        """Settings from flags and environment.

        Raises:
            SettingsError: a value has the wrong type or is out of range.
        """
        parser = argparse.ArgumentParser(
            prog="slipway_scoring serve", description="Answer HTTP requests for one model."
        )
        for item in fields(cls):
            if item.name != "token":  # Every user of the machine can read a command line.
                help_text = f"{item.metadata['help']} [${PREFIX}{item.name.upper()}]".replace("%", "%%")
                parser.add_argument(f"--{item.name.replace('_', '-')}", help=help_text, metavar="VALUE")
        flags = vars(parser.parse_args(list(arguments)))
        values: dict[str, Any] = {}
        for item in fields(cls):
            variable = PREFIX + item.name.upper()
            given = flags.get(item.name)
            source = f"--{item.name.replace('_', '-')}" if given is not None else f"${variable}"
            text = given if given is not None else environment.get(variable)
            if text is not None and text != "":
                values[item.name] = _parse(source, text, type(item.default), item.metadata["least"])
        if "port" not in values and environment.get("SAGEMAKER_BIND_TO_PORT"):
            text = environment["SAGEMAKER_BIND_TO_PORT"]
            values["port"] = _parse("$SAGEMAKER_BIND_TO_PORT", text, int, 0)
        elif "port" not in values and environment.get("AZUREML_MODEL_DIR"):
            values["port"] = _AZUREML_PORT
        if "model" not in values:
            values["model"] = environment.get("AZUREML_MODEL_DIR") or "/opt/ml/model"
        settings = cls(**values)
        settings._check()
        return settings

    def _check(self) -> None:
        if self.batching not in {"auto", "on", "off"}:
            raise SettingsError(f"--batching is '{self.batching}': it must be auto, on or off.")
        if self.access_log not in {"on", "off"}:
            raise SettingsError(f"--access-log is '{self.access_log}': it must be on or off.")
        if bool(self.tls_cert) != bool(self.tls_key):
            raise SettingsError("TLS needs both --tls-cert and --tls-key: give both or neither.")
        for flag, path in (("--tls-cert", self.tls_cert), ("--tls-key", self.tls_key)):
            if path and not Path(path).is_file():
                raise SettingsError(f"{flag} {path} is no file: give a PEM file.")
        if self.root_path and (not self.root_path.startswith("/") or self.root_path.endswith("/")):
            raise SettingsError(f"--root-path is '{self.root_path}': it must start with / and not end with it.")


def _parse(source: str, text: str, kind: type, least: float | None) -> Any:
    try:
        value = kind(text)
    except ValueError as error:
        raise SettingsError(f"{source} is '{text}': it must be a number.") from error
    if least is not None and value < least:
        raise SettingsError(f"{source} is {text}: it must be at least {least:g}.")
    return value


def table() -> str:
    """The settings as the Markdown table of README.md."""
    lines = ["| flag | variable | default | meaning |", "| --- | --- | --- | --- |"]
    for item in fields(Settings):
        flag = "" if item.name == "token" else f"`--{item.name.replace('_', '-')}`"
        default = "" if item.default == "" else f"`{item.default}`"
        lines.append(f"| {flag} | `{PREFIX}{item.name.upper()}` | {default} | {item.metadata['help']} |")
    return "\n".join(lines) + "\n"
