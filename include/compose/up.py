"""Start the production stack and wait until all of it is healthy: `up.py WORKERS COMPOSE…`. Standard library only."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

_PATIENCE_SECONDS = 600.0
_POLL_SECONDS = 2.0


def main(workers: str, compose: list[str]) -> str | None:
    """Return what is wrong, in one sentence, or None when the stack is up."""
    if not workers.isdigit() or not int(workers):
        return f"WORKERS={workers} is no number above zero: use one such as WORKERS=2."
    if "SLIPWAY_SECRETS" not in os.environ and not _names_secrets(Path(".env")):
        return "There are no passwords yet, and none is the default: make them with `make secrets`."
    try:
        done = subprocess.run([*compose, "up", "--detach", "--scale", f"airflow-worker={workers}"], check=False)
    except FileNotFoundError:
        return "There is no docker-compose: install compose v2, or Debian's package docker-compose."
    if done.returncode != 0:
        return f"The stack does not come up: see the lines above, or `{' '.join(compose)} logs`."
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while waiting := _not_healthy(compose):
        if time.monotonic() > deadline:
            names = ", ".join(sorted(waiting))
            return f"Not healthy after {_PATIENCE_SECONDS:.0f} s: {names}; see `docker logs` of each."
        print(f"waiting for {', '.join(sorted(waiting))}", flush=True)  # noqa: T201
        time.sleep(_POLL_SECONDS)
    print("The stack is up: Airflow's password is in the file airflow_admin_password of the secrets.")  # noqa: T201
    return None


def _names_secrets(env_file: Path) -> bool:
    return env_file.exists() and any(line.startswith("SLIPWAY_SECRETS=") for line in env_file.read_text().splitlines())


def _not_healthy(compose: list[str]) -> list[str]:
    """The containers that are not what they should be yet; those that ran once and ended well are."""
    listed = subprocess.run([*compose, "ps", "--quiet"], capture_output=True, text=True, check=True).stdout.split()
    found = subprocess.run(["docker", "inspect", *listed], capture_output=True, text=True, check=True).stdout
    waiting = []
    for container in json.loads(found):
        state = container["State"]
        health = state.get("Health", {}).get("Status")
        if not (health == "healthy" or (state["Status"] == "exited" and state["ExitCode"] == 0)):
            waiting.append(str(container["Name"]).lstrip("/"))
    return waiting


if __name__ == "__main__":
    problem = main(sys.argv[1], sys.argv[2:])
    if problem:
        sys.exit(f"slipway: {problem}")
