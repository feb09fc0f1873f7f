"""Makes or renews the checkout's `.venv`: `python3 make_environment.py requirements.txt [requirements-dev.txt]`.

The environment holds what the files name, and nothing else. Once it has been made with more files, as for the
tests, it keeps them: `make demo` takes away nothing that `make test` needs. A stamp in it says what it was made
from, so that a run that finds nothing to do takes no time. Of two at once the second waits for the first. Standard
library only: this runs before there is anything else, and on Pythons too old for the rest.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).resolve().parents[2]
VENV = CHECKOUT / ".venv"
STAMP = VENV / "slipway.json"
PYTHON = VENV / "bin" / "python"
OLDEST = (3, 11)
# The packages themselves, and as much again while they are downloaded and unpacked.
FREE_GB = 6


def main(files: list[str]) -> int:
    """Bring `.venv` in line with the requirement files; return the exit code."""
    problem = missing()
    if problem:
        return refuse(problem)
    # Of two that run at once (`make sandbox-aws` and `make sandbox-azure`) the second would clear what the first
    # makes. This file is what they share that is there before anything else.
    with Path(__file__).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return bring_in_line(files)


def bring_in_line(files: list[str]) -> int:
    """Make or renew `.venv` if it is not what the files name; return the exit code."""
    made = read_stamp()
    files = sorted(set(files) | set(made.get("files", [])))
    wanted = {"files": files, "digest": digest(files), "python": "{}.{}".format(*sys.version_info)}
    if made == wanted:
        return 0
    free = shutil.disk_usage(str(CHECKOUT)).free / 1024**3
    if free < FREE_GB:
        return refuse(f"the disk of {CHECKOUT} has {free:.1f} GB free, and the environment needs {FREE_GB}: free some")
    try:
        install(files, anew=made.get("python") != wanted["python"])
    except (OSError, subprocess.CalledProcessError) as error:
        return refuse(f"the environment in {VENV} could not be made ({error}): see above, mend that and run it again")
    STAMP.write_text(json.dumps(wanted, indent=2) + "\n")
    return 0


def missing() -> str | None:
    """One sentence about what this machine lacks, or None."""
    if sys.version_info < OLDEST:
        found = "{}.{}".format(*sys.version_info)
        return f"this is Python {found}, and 3.11 or newer is needed: run `make PYTHON=python3.11 …` with one that is"
    try:
        import ensurepip  # noqa: F401  # Debian keeps it in a package of its own
    except ImportError:
        return "Python cannot make virtual environments here: install its venv package (`apt-get install python3-venv`)"
    if VENV.is_symlink():  # emptied and filled here, it would be somebody else's loss
        return f"{VENV} is a link to {VENV.resolve()}, which this checkout does not own: remove the link"
    if not shutil.which("git"):
        return "git is not installed: install it (`apt-get install git`)"
    return None


def install(files: list[str], *, anew: bool) -> None:
    """Make the environment if it is not there, and install exactly what the files name."""
    STAMP.unlink(missing_ok=True)
    if anew or not PYTHON.exists():
        print(f"Making {VENV} with Python {sys.version.split()[0]}", flush=True)
        venv.create(str(VENV), with_pip=True, clear=True)
    # uv is pinned like everything else, and fetched with pip because that is what is there.
    pinned = re.findall(r"^uv==[^\s;]+", (CHECKOUT / "requirements.txt").read_text(), re.MULTILINE)
    run("-m", "pip", "install", "--quiet", "--disable-pip-version-check", *pinned)
    lines = [line for name in files for line in (CHECKOUT / name).read_text().splitlines()]
    count = len({line.partition("==")[0] for line in lines if "==" in line})
    print(f"Installing some {count} packages with uv: a minute or two where the network is fast", flush=True)
    # On a terminal uv shows how far it is; a log is spared the list.
    quiet = [] if sys.stderr.isatty() else ["--quiet"]
    run("-m", "uv", "pip", "sync", "--python", str(PYTHON), *quiet, *files)


def run(*arguments: str) -> None:
    """Run the environment's interpreter in the checkout."""
    subprocess.run([str(PYTHON), *arguments], cwd=str(CHECKOUT), check=True)


def read_stamp() -> dict[str, Any]:
    """What the environment was made from; empty if it is not there or was left half made."""
    try:
        return dict(json.loads(STAMP.read_text())) if PYTHON.exists() else {}
    except (OSError, ValueError):
        return {}


def digest(files: list[str]) -> str:
    """One hash over the requirement files' contents."""
    texts = [(CHECKOUT / name).read_bytes() for name in files]
    return hashlib.sha256(b"\0".join(texts)).hexdigest()


def refuse(sentence: str) -> int:
    """Say why it cannot be done."""
    print(f"slipway: {sentence}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
