"""The stack's passwords and keys: made once, kept in files that only their owner reads."""

from __future__ import annotations

import base64
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

from slipway_stack.settings import Stack

LOGIN = "admin"


@dataclass(frozen=True)
class Keys:
    """What the processes of one stack know of each other."""

    password: str
    jwt_secret: str
    api_secret: str
    fernet_key: str
    model_host_token: str


def keys(stack: Stack) -> Keys:
    """The stack's keys, made at the first call.

    The password stands in a file of its own too, in the form that Airflow's SimpleAuthManager reads.
    """
    path = stack.secrets / "keys.json"
    if not path.exists():
        made = {
            "password": secrets.token_urlsafe(12),
            "jwt_secret": secrets.token_urlsafe(48),
            "api_secret": secrets.token_urlsafe(48),
            "fernet_key": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
            "model_host_token": secrets.token_urlsafe(32),
        }
        write_private(login_file(stack), json.dumps({LOGIN: made["password"]}))
        write_private(path, json.dumps(made, indent=2))
    return Keys(**json.loads(path.read_text()))


def login_file(stack: Stack) -> Path:
    """Airflow's users and passwords."""
    return stack.secrets / "airflow_login.json"


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; it is never there half written."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    partial.replace(path)
