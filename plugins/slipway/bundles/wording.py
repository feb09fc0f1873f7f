"""How the intake words its refusals: one sentence, whatever is in the bundle."""

from __future__ import annotations

import re

__all__ = ["one_line", "shown", "size"]

_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
_CREDENTIAL_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://\S+")


def shown(value: str, limit: int = 100) -> str:
    """Return `value` quoted, with everything unprintable escaped, and shortened in the middle."""
    if len(value) > limit:
        value = f"{value[: limit // 2]}…{value[-limit // 3 :]}"
    return "'" + "".join(char if char.isprintable() else _escaped(char) for char in value) + "'"


def size(number: int | float) -> str:
    """Return a number of bytes for people: `1.5 GiB`."""
    amount = float(number)
    for unit in _UNITS:
        if amount < 1024 or unit == _UNITS[-1]:
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "bytes" or amount >= 100 else f"{amount:.3g} {unit}"


def one_line(text: str, limit: int = 400) -> str:
    """Return `text` as a part of a sentence: on one line, without URLs, shortened, without the final stop."""
    line = " ".join(_CREDENTIAL_URL.sub("(a URL)", text).split())
    line = "".join(char if char.isprintable() else _escaped(char) for char in line)
    if len(line) > limit:
        line = line[: limit - 1].rstrip() + "…"
    return line.rstrip(".")


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
