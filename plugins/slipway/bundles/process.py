"""Runs a trusted helper program (uv, an interpreter) with a scrubbed environment and a time limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from shutil import which

from slipway.bundles.wording import one_line
from slipway.errors import SlipwayError, UserError

__all__ = ["Finished", "allowed_environment", "find_uv", "python_version", "run"]

# What a program needs to find itself, its language and the package index. Airflow's own variables hold secrets.
_ALLOWED = {"PATH", "HOME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
            "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "SLIPWAY_UV"}  # fmt: skip
_ALLOWED_PREFIXES = ("LC_", "UV_")
_PROXIES = {"http_proxy", "https_proxy", "no_proxy", "all_proxy"}


class Finished(subprocess.CompletedProcess[str]):
    """A finished program with its output as text."""


def allowed_environment() -> dict[str, str]:
    """Return those variables of this process that a program from outside may see."""
    return {
        name: value
        for name, value in os.environ.items()
        if name in _ALLOWED or name.startswith(_ALLOWED_PREFIXES) or name.lower() in _PROXIES
    }


def run(command: Sequence[str], *, seconds: float, what: str, environment: Mapping[str, str], cwd: Path) -> Finished:
    """Run `command` to its end, whatever its exit status.

    :param what: names the work, as in "Resolving the requirements".
    :raises UserError: if it takes longer than `seconds`.
    :raises SlipwayError: if it cannot be started.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False, cwd=cwd,
            stdin=subprocess.DEVNULL, env=dict(environment),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise UserError(
            f"{what} took longer than {seconds:.0f} s: pin more of the versions in requirements.txt."
        ) from error
    except OSError as error:
        raise SlipwayError(f"{what} needs {command[0]}, which cannot be run here ({one_line(str(error))}).") from error
    return Finished(done.args, done.returncode, done.stdout, done.stderr)


def find_uv() -> str:
    """Return the uv to use: `$SLIPWAY_UV`, or the one beside this interpreter, or the first on the PATH.

    :raises SlipwayError: if there is none.
    """
    beside = Path(sys.executable).with_name("uv")
    found = os.environ.get("SLIPWAY_UV") or (str(beside) if beside.exists() else which("uv"))
    if not found:
        raise SlipwayError(
            "uv is not installed, and requirements are locked with it: install it or name it in SLIPWAY_UV."
        )
    return found


@lru_cache
def python_version(python: str) -> str:
    """Return the version of an interpreter as `3.11`.

    :raises SlipwayError: if it cannot be run.
    """
    program = "import sys; print('%d.%d' % sys.version_info[:2])"
    done = run(
        [python, "-I", "-S", "-c", program],
        seconds=60, what="Asking the Python of the scoring environments for its version",
        environment=allowed_environment(), cwd=Path("/"),
    )  # fmt: skip
    if done.returncode:
        raise SlipwayError(f"Python {python}, which [slipway] python names, does not run: {one_line(done.stderr)}.")
    return done.stdout.strip()
