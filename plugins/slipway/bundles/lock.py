"""Resolves a bundle's requirements, with those of the scoring server, to a lock: exact versions and hashes.

The lock names neither a path of this machine nor an index, so equal requirements give equal locks, and so one
environment and one image.
"""

from __future__ import annotations

import hashlib
import platform
import re
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement

from slipway.bundles import process
from slipway.bundles.limits import Site
from slipway.bundles.wording import one_line
from slipway.errors import SlipwayError, Unavailable, UserError

__all__ = ["Lock", "make_lock"]

# uv's own words (its `error:` and `cause:` lines, and the tree of older versions).
_UNSATISFIABLE = re.compile(r"no solution found when resolving dependencies", re.IGNORECASE)
_NETWORK = re.compile(
    r"failed to fetch|error sending request|dns error|connection (refused|reset)|timed out|could not connect"
    r"|network connectivity is disabled|status code: 5\d\d|server error",
    re.IGNORECASE,
)
_NOISE = (
    (re.compile(r"[╰─▶├×│]+|^\s*(error|cause|hint):\s*", re.IGNORECASE | re.MULTILINE), " "),
    (re.compile(r"\bNo solution found when resolving dependencies:?", re.IGNORECASE), " "),
    (re.compile(r",?\s*(and\s+)?we can conclude that your requirements are unsatisfiable", re.IGNORECASE), ""),
    (re.compile(r"\bAnd because\b"), "and because"),
    (re.compile(r"\byou require\b"), "the bundle and the scoring server require"),
)


@dataclass(frozen=True, slots=True)
class Lock:
    """A lock file: its text, and the digest that names its environment."""

    text: str
    python: str  # such as 3.11

    @property
    def digest(self) -> str:
        """sha256 of the text, in hex."""
        return hashlib.sha256(self.text.encode()).hexdigest()


def make_lock(requirements: list[Requirement], site: Site) -> Lock:
    """Resolve `requirements` together with the scoring server's.

    :raises UserError: if no set of versions satisfies them, in one sentence out of uv's explanation.
    :raises Unavailable: if the package index cannot be reached.
    """
    version = process.python_version(site.python)
    with tempfile.TemporaryDirectory(prefix="slipway-lock-") as folder:
        own = Path(folder) / "requirements.in"
        # Only what was understood is passed on: uv never sees the user's lines.
        own.write_text("".join(f"{requirement}\n" for requirement in requirements), encoding="utf-8")
        command = [
            process.find_uv(), "pip", "compile", str(own), str(site.scoring_home / "requirements.txt"),
            "--python", site.python, "--python-version", version, "--generate-hashes",
            "--no-header", "--no-annotate", "--no-emit-index-url", "--no-emit-find-links", "--no-progress",
            "--color", "never",
        ]  # fmt: skip
        if not site.allow_source_distributions:
            command += ["--only-binary", ":all:"]
        done = process.run(
            command, seconds=site.limits.lock_seconds, what="Resolving the bundle's requirements",
            environment=process.allowed_environment(), cwd=Path(folder),
        )  # fmt: skip
    if done.returncode:
        raise _refusal(done.stderr, site)
    head = f"# python: {version}\n# platform: {sys.platform}-{platform.machine()}\n"
    return Lock(head + done.stdout, version)


def _refusal(stderr: str, site: Site) -> SlipwayError:
    why = one_line(_explained(stderr), 500)
    if _NETWORK.search(stderr):
        return Unavailable(
            f"The bundle's requirements cannot be resolved now because the package index does not answer: {why}."
        )
    if not _UNSATISFIABLE.search(stderr):
        return UserError(f"The bundle's requirements cannot be resolved, {why}: correct requirements.txt.")
    wheels = "" if site.allow_source_distributions else " that come as wheels"
    return UserError(
        f"The bundle's requirements cannot be resolved {_lower(why)}: correct requirements.txt so that "
        f"versions{wheels} satisfy all of it."
    )


def _explained(stderr: str) -> str:
    stderr = re.split(r"^\s*hint:", stderr, maxsplit=1, flags=re.MULTILINE)[0]
    text = "\n".join(
        line for line in stderr.splitlines() if not line.lower().startswith(("warning", "using ", "resolved "))
    )
    for pattern, replacement in _NOISE:
        text = pattern.sub(replacement, text)
    return text.replace(". ", ", ").strip(" ,.\n")


def _lower(why: str) -> str:
    return why[:1].lower() + why[1:]
