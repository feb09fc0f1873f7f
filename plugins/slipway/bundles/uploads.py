"""The uploads' area of the bundle store: what came through the Models page and is not imported yet.

<store>/.uploads/<seconds since 1970>-<random>/<name>.zip
"""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from slipway.bundles.folder import open_folder

__all__ = ["AREA", "collect", "forget"]

AREA = ".uploads"
KEPT_SECONDS = 24 * 3600


def collect(store: str) -> None:
    """Remove uploads that nobody has imported for a day."""
    folder = open_folder(store)
    for key in folder.names(AREA):
        began = key.partition("-")[0]
        if began.isdigit() and time.time() - int(began) > KEPT_SECONDS:
            folder.remove(f"{AREA}/{key}")


def forget(store: str, uri: str) -> bool:
    """Remove an upload that has been imported; return whether `uri` was one. Other files are left alone."""
    inside = urlsplit(uri).path.removeprefix(f"{urlsplit(store).path.rstrip('/')}/{AREA}/")
    key, slash, name = inside.partition("/")
    if inside == urlsplit(uri).path or not slash or not name or "/" in name or key in {"", ".", ".."}:
        return False
    open_folder(store).remove(f"{AREA}/{key}")
    return True
