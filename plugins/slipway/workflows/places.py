"""Where a path leads, in one spelling for each place; read letter by letter, as Spark does (`slipway_spark.places`)."""

from __future__ import annotations

import posixpath
import re
from itertools import combinations
from pathlib import Path

__all__ = ["is_below", "normal", "overlapping"]

_URI = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://([^/]*))?(.*)", re.DOTALL)
_NOWHERE = "/dev/null/refused"


def normal(path: str) -> str:
    """No `..`, no doubled slashes, no links, no `file:` before a local path."""
    uri = _URI.fullmatch(path)
    scheme, host, place = (uri[1].lower(), uri[2] or "", uri[3]) if uri else ("file", "", path)
    if scheme != "file":
        # One store to Hadoop under three names.
        scheme = "s3" if scheme in {"s3a", "s3n"} else scheme
        return f"{scheme}://{host}/{posixpath.normpath(f'/{place}').lstrip('/')}".rstrip("/")
    # A comma or a brace is a list of paths to Spark, each of which would have to be looked at.
    if host or not place.startswith("/") or set("{},") & set(place):
        return _NOWHERE
    return str(Path(posixpath.normpath(place)).resolve())


def is_below(path: str, root: str) -> bool:
    """Whether a normal path is `root` or leads below it."""
    return path == root or path.startswith(f"{root.rstrip('/')}/")


def overlapping(roots: dict[str, str]) -> tuple[str, str] | None:
    """Two names whose normal paths are one place, or one below the other."""
    for (one, path), (other, place) in combinations(roots.items(), 2):
        if is_below(path, place) or is_below(place, path):
            return one, other
    return None
