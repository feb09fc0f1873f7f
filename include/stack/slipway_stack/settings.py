"""Where the stack lives and which ports it uses."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from slipway_stack.errors import StackError
from slipway_stack.ports import LOOPBACK

CHECKOUT = Path(__file__).resolve().parents[3]

# Each port: the variable that overrides it, and its default.
PORT_VARIABLES: dict[str, tuple[str, int]] = {
    "airflow": ("SLIPWAY_AIRFLOW_PORT", 8080),
    "mlflow": ("SLIPWAY_MLFLOW_PORT", 5000),
    "model_host": ("SLIPWAY_MODEL_HOST_PORT", 5100),
    "model_host_admin": ("SLIPWAY_MODEL_HOST_ADMIN_PORT", 5101),
}
_HIGHEST_PORT = 65535


@dataclass(frozen=True)
class Stack:
    """One stack: its home, its ports, and every path that follows from them."""

    home: Path
    ports: Mapping[str, int]

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """The stack that the variables name: `SLIPWAY_HOME` and the ports.

        A port that no variable names is the one that this home was last started with, else the default.
        Raises `StackError` for a port that is none.
        """
        home = Path(environ.get("SLIPWAY_HOME") or CHECKOUT / ".slipway").expanduser().resolve()
        remembered = recorded_ports(home)
        ports: dict[str, int] = {}
        for name, (variable, default) in PORT_VARIABLES.items():
            text = environ.get(variable) or str(remembered.get(name, default))
            if not text.isdecimal() or not 0 < int(text) <= _HIGHEST_PORT:
                raise StackError(f"{variable} is '{text}': give a port number from 1 to {_HIGHEST_PORT}.")
            if int(text) in ports.values():
                raise StackError(f"{variable} is {text}, which another part of the stack uses too: give another port.")
            ports[name] = int(text)
        return cls(home, ports)

    def record(self) -> None:
        """Remember the ports, so that `stop` and `status` find this stack with no variable set."""
        (self.home / "stack.json").write_text(json.dumps({"ports": dict(self.ports)}, indent=2) + "\n")

    def url(self, port: str) -> str:
        """Base address of one of the ports, with no slash at its end."""
        return f"http://{LOOPBACK}:{self.ports[port]}"

    @property
    def airflow(self) -> Path:
        """Airflow's home: its database, its tasks' logs."""
        return self.home / "airflow"

    @property
    def mlflow(self) -> Path:
        """MLflow's database and artifacts."""
        return self.home / "mlflow"

    @property
    def model_host(self) -> Path:
        """The model host's state and the models it serves."""
        return self.home / "model_host"

    @property
    def environments(self) -> Path:
        """The models' virtual environments, shared by the import's probe and the model host."""
        return self.home / "environments"

    @property
    def bundles(self) -> Path:
        """The bundle store."""
        return self.home / "bundles"

    @property
    def logs(self) -> Path:
        """One log for each process of the stack."""
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """What only the running stack needs: its commands, its socket, its process ids."""
        return self.home / "run"

    @property
    def secrets(self) -> Path:
        """Passwords and keys that were made for this stack."""
        return self.home / "secrets"


def recorded_ports(home: Path) -> dict[str, int]:
    """The ports that a stack in this home was last started with; empty if none was."""
    try:
        return dict(json.loads((home / "stack.json").read_text())["ports"])
    except FileNotFoundError:
        return {}
