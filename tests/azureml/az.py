"""The two commands of the Azure CLI that the samples use, asked of the sandbox: `python -m tests.azureml.az …`.

The CLI itself is not among what the tests install; this stands in its place on the samples' PATH and calls the same
REST actions.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from slipway.hooks.azureml import AzureMLEndpointHook


def install(folder: Path, variables: Mapping[str, str]) -> None:
    """Write the command `az` into a folder, for processes that have nothing else of this one's environment."""
    exports = " ".join(f"{name}={shlex.quote(value)}" for name, value in variables.items())
    path = shlex.quote(":".join(sys.path))
    command = folder / "az"
    command.write_text(
        f'#!/bin/sh\n{exports} PYTHONPATH={path} exec {shlex.quote(sys.executable)} -m tests.azureml.az "$@"\n'
    )
    command.chmod(0o700)


def main() -> None:
    """Print a key or a token."""
    parser = argparse.ArgumentParser(prog="az")
    parser.add_argument("words", nargs="+")
    for name in ("name", "workspace-name", "resource-group", "subscription", "query", "output", "resource"):
        parser.add_argument(f"--{name}")
    asked = parser.parse_args()
    hook = AzureMLEndpointHook()
    workspace = hook.workspace
    if asked.words == ["account", "get-access-token"]:
        print(workspace.credential().get_token(f"{asked.resource}/.default").token)
        return
    assert asked.words == ["ml", "online-endpoint", "get-credentials"]
    named = (asked.workspace_name, asked.resource_group, asked.subscription)
    assert named == (workspace.name, workspace.resource_group, workspace.subscription_id)
    found = hook.endpoint(asked.name)
    assert found is not None
    print(hook.secret(asked.name, found))


if __name__ == "__main__":
    main()
