"""What a path means, for all who look at one: as Spark reads it, letter by letter, with no `%20` and no `#` or `?`."""

from __future__ import annotations

from pathlib import Path

__all__ = ["local"]


def local(path: str) -> Path | None:
    """The place on this machine, or on a share that is on every node, that a path names; None if it names another."""
    scheme, colon, rest = path.partition(":")
    if not colon or "/" in scheme:
        return Path(path)
    if scheme.lower() != "file":
        return None
    if not rest.startswith("//"):
        return Path(rest)
    host, _, below = rest[2:].partition("/")
    return None if host else Path(f"/{below}")
