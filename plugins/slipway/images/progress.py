"""What an engine says while it builds, pushes and pulls, as a few log lines a second."""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

__all__ = ["EngineRefusal", "Stages", "follow"]

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_SECONDS = 1.0
_LONGEST_LINE = 200
_NOISE = ("--->", "Removing intermediate container")
_KEPT = 15
_MB = 1_000_000


class Stages:
    """Takes note, from a build's stream, of the image that each stage but the last ended with."""

    def __init__(self) -> None:
        self.before_last: list[str] = []
        self._made = ""

    def watch(self, stream: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        """Pass a stream on."""
        for item in stream:
            text = str(item.get("stream", ""))
            if text.startswith("Step ") and " : FROM " in text and self._made:
                self.before_last.append(self._made)
            elif text.startswith(" ---> ") and not text.startswith((" ---> Running", " ---> Using")):
                self._made = text[6:].strip()
            yield item


class EngineRefusal(Exception):
    """The stream ended with an error of the engine's; `tail` holds the last lines before it."""

    def __init__(self, message: str, tail: list[str]) -> None:
        super().__init__(message)
        self.tail = tail


def follow(stream: Iterable[dict[str, Any]], log: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Log a stream of the engine's, and yield its `aux` objects (image id, pushed digest).

    Of lines that come faster than one a second the last is logged; layers that move are summed up in one line.

    :param log: takes one line.
    :raises EngineRefusal: if the engine reports an error.
    """
    layers: dict[str, tuple[int, int]] = {}
    tail: deque[str] = deque(maxlen=_KEPT)
    waiting: str | None = None
    due = 0.0
    for item in stream:
        if "error" in item:
            raise EngineRefusal(" ".join(str(item["error"]).split()), list(tail))
        if isinstance(item.get("aux"), dict):
            yield item["aux"]
        line = _line(item, layers)
        if line is None:
            continue
        tail.append(line)
        waiting = line
        if time.monotonic() >= due:
            log(waiting)
            waiting, due = None, time.monotonic() + _SECONDS
    if waiting is not None:
        log(waiting)


def _line(item: dict[str, Any], layers: dict[str, tuple[int, int]]) -> str | None:
    if "stream" in item:
        text = " ".join(_COLOUR.sub("", str(item["stream"])).split())
        return None if text.startswith(_NOISE) else text[:_LONGEST_LINE] or None
    layer, status = item.get("id"), str(item.get("status", ""))
    if not layer:
        return status or None
    detail = item.get("progressDetail") or {}
    if detail.get("current") is not None:
        done = int(detail["current"])
        layers[layer] = (done, max(int(detail.get("total") or 0), done))
    elif layer in layers and status in {"Pushed", "Pull complete", "Download complete"}:
        layers[layer] = (layers[layer][1], layers[layer][1])
    elif layer not in layers:
        return None if status in {"Preparing", "Waiting", "Pulling fs layer"} else f"{layer}: {status}"
    done, total = (sum(column) for column in zip(*layers.values(), strict=True))
    return f"{status}: {done // _MB} of {total // _MB} MB in {len(layers)} layers"
