"""Stands in for the Azure CLI: the two commands of it that sample code uses, asked of the sandbox over REST.

The CLI is far larger than all of the sandbox, and is signed in to somebody's real account. This file is also the
program, run by itself, so it imports nothing but the standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["install"]

_CONNECTION = "AIRFLOW_CONN_AZUREML_DEFAULT"
_METADATA = "ARM_CLOUD_METADATA_URL"


def install(folder: Path, environment: Mapping[str, str]) -> Path:
    """Write the command `az` into a folder, which is made, and return the folder.

    :param environment: what the sandbox says of itself. Its secret is in the file, which is this user's alone.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = folder / "az"
    command.touch(mode=0o700)
    exports = " ".join(f"{name}={shlex.quote(environment[name])}" for name in (_CONNECTION, _METADATA, "SSL_CERT_FILE"))
    program = " ".join(shlex.quote(part) for part in (sys.executable, "-I", __file__))
    command.write_text(f'#!/bin/sh\n{exports} exec {program} "$@"\n')
    return folder


def main() -> int:
    """Print a key or a token."""
    parser = argparse.ArgumentParser(prog="az", description="The sandbox's stand-in for the Azure CLI.")
    parser.add_argument("words", nargs="+", help="`account get-access-token` or `ml online-endpoint get-credentials`")
    for name in ("name", "workspace-name", "resource-group", "subscription", "query", "output", "resource"):
        parser.add_argument(f"--{name}")
    asked = parser.parse_args()
    root = os.environ[_METADATA].partition("/metadata/")[0]
    try:
        if asked.words == ["account", "get-access-token"]:
            answer = {"accessToken": _token(root, asked.resource)}
        elif asked.words == ["ml", "online-endpoint", "get-credentials"]:
            answer = _keys(root, asked)
        else:
            parser.error(f"the sandbox's stand-in does not know `az {' '.join(asked.words)}`")
    except urllib.error.HTTPError as e:
        sys.stderr.write(f"ERROR: {e.read().decode(errors='replace')}\n")
        return 1
    sys.stdout.write(f"{answer[asked.query]}\n")
    return 0


def _keys(root: str, asked: argparse.Namespace) -> dict[str, Any]:
    path = "/".join(
        urllib.parse.quote(part, safe="")
        for part in (
            *("subscriptions", asked.subscription, "resourceGroups", asked.resource_group),
            *("providers", "Microsoft.MachineLearningServices", "workspaces", asked.workspace_name),
            *("onlineEndpoints", asked.name, "listKeys"),
        )
    )
    headers = {"Authorization": f"Bearer {_token(root, root)}"}
    return _post(f"{root}/{path}?api-version=2025-12-01", b"", headers)


def _token(root: str, resource: str) -> str:
    connection = json.loads(os.environ[_CONNECTION])
    form = {
        "grant_type": "client_credentials",
        "client_id": connection["login"],
        "client_secret": connection["password"],
        "scope": f"{resource.rstrip('/')}/.default",
    }
    url = f"{root}/{connection['extra']['tenant_id']}/oauth2/v2.0/token"
    return str(_post(url, urllib.parse.urlencode(form).encode(), {})["access_token"])


def _post(url: str, body: bytes, headers: dict[str, str]) -> dict[str, Any]:
    request = urllib.request.Request(url, body, headers, method="POST")  # noqa: S310  # the sandbox's own address
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310
        return dict(json.load(response))


if __name__ == "__main__":
    sys.exit(main())
