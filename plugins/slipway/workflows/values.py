"""Values of parameters: what each type takes, and where a value may stand in a definition's text."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime
from typing import Any, Literal

from slipway.errors import UserError

__all__ = ["ParameterType", "convert", "fill", "placeholders"]

ParameterType = Literal["string", "integer", "number", "boolean", "date", "timestamp", "path"]

_PLACEHOLDER = re.compile(r"\$\{([^}]*)\}")
_IN_A_PATH = re.compile(r"[A-Za-z0-9_=:+@-][A-Za-z0-9._=:+@-]*")
_LONGEST = 4096
_BOOLEANS = {"true": "true", "false": "false", "yes": "true", "no": "false", "1": "true", "0": "false"}


def placeholders(text: str) -> list[str]:
    """The names in `${name}` that `text` holds."""
    return [str(name) for name in _PLACEHOLDER.findall(text)]


def convert(name: str, kind: ParameterType, value: Any) -> str:
    """Return the value as the plan carries it: text in one canonical form.

    :raises UserError: if it is not of type `kind`.
    """
    text = _text(value)
    if len(text) > _LONGEST or "\0" in text:
        raise UserError(f"Parameter '{name}' holds more than {_LONGEST} characters or a NUL: give a shorter value.")
    try:
        return _convert(kind, text, value)
    except (ValueError, OverflowError):
        raise UserError(
            f"Parameter '{name}' is {_shown(text)}, which is not of its type: give {_HINTS[kind]}."
        ) from None


def _convert(kind: ParameterType, text: str, value: Any) -> str:  # one return a type
    if kind == "integer":
        if isinstance(value, bool) or not re.fullmatch(r"[+-]?[0-9]{1,18}", text.strip()):
            raise ValueError(text)
        return str(int(text))
    if kind == "number":
        if isinstance(value, bool):
            raise ValueError(text)
        number = float(text)
        if number != number or number in {float("inf"), float("-inf")}:  # noqa: PLR0124  # NaN differs from itself
            raise ValueError(text)
        return repr(number)
    if kind == "boolean":
        if text.strip().lower() not in _BOOLEANS:
            raise ValueError(text)
        return _BOOLEANS[text.strip().lower()]
    if kind == "date":
        return date.fromisoformat(text.strip()).isoformat()
    if kind == "timestamp":
        moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).isoformat()
    if kind == "path" and (not text.strip() or any(ord(c) < 32 for c in text)):
        raise ValueError(text)
    return text


def fill(text: str, values: dict[str, tuple[ParameterType, str | None]]) -> str:
    """Put values in the place of `${name}`.

    A value in the middle of a text is a name there and nothing else: no separators, no `..`, no wildcards. A `path`
    is the exception, and where it may lead is checked by whoever asks for this.

    :raises UserError: if a value is missing, or may not stand there.
    """

    def value_of(match: re.Match[str]) -> str:
        name = match.group(1)
        kind, value = values[name]
        if value is None:
            raise UserError(f"Parameter '{name}' has no value: give it, or give its definition a default.")
        if kind != "path" and not _IN_A_PATH.fullmatch(value):
            raise UserError(
                f"Parameter '{name}' is {_shown(value)}, and stands in '{text}': use letters, digits, '-', '_', '=', "
                "'+', '@', ':' and '.', not beginning with '.'."
            )
        return value

    return _PLACEHOLDER.sub(value_of, text)


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else str(value)


def _shown(text: str) -> str:
    shown = repr(text)
    return shown if len(shown) <= 60 else f"{shown[:57]}…'"


_HINTS: dict[ParameterType, str] = {
    "string": "text",
    "integer": "a whole number, such as 12",
    "number": "a number, such as 0.5",
    "boolean": "true or false",
    "date": "a date, such as 2026-11-22",
    "timestamp": "a time, such as 2026-11-22T03:00:00+00:00",
    "path": "a path or URI in one line",
}
