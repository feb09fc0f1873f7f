"""Compare a live endpoint's answer with the golden sample's output."""

from __future__ import annotations

import math
from typing import Any

__all__ = ["first_difference"]


def first_difference(expected: Any, actual: Any, tolerance: float, path: str = "predictions") -> str | None:
    """Return where two predictions differ, in words, or None if they are equal.

    Labels (strings, integers, booleans, null) must be equal; floats may differ by `tolerance`, relative to
    the larger, or absolutely near zero. NaN equals NaN and null, which is its JSON form.

    :param expected: JSON value from the golden sample.
    :param actual: JSON value from the endpoint.
    :param path: what to call the value in the answer.
    """
    if isinstance(expected, dict):
        if not isinstance(actual, dict) or expected.keys() != actual.keys():
            found = f"an object with {_shown(sorted(actual))}" if isinstance(actual, dict) else _shown(actual)
            return f"{path} is {found} and not an object with {_shown(sorted(expected))}"
        parts = [(f"{path}.{key}", expected[key], actual[key]) for key in expected]
    elif isinstance(expected, list):
        if not isinstance(actual, list) or len(expected) != len(actual):
            found = f"a list of {len(actual)}" if isinstance(actual, list) else _shown(actual)
            return f"{path} is {found} and not a list of {len(expected)}"
        parts = [(f"{path}[{i}]", e, a) for i, (e, a) in enumerate(zip(expected, actual, strict=True))]
    else:
        equal = _equal(expected, actual, tolerance)
        return None if equal else f"{path} is {_shown(actual)} and not {_shown(expected)}"
    return next((inner for p, e, a in parts if (inner := first_difference(e, a, tolerance, p))), None)


def _equal(expected: Any, actual: Any, tolerance: float) -> bool:
    if _is_nan(expected) or _is_nan(actual):
        return (_is_nan(expected) or expected is None) and (_is_nan(actual) or actual is None)
    if isinstance(expected, float) and isinstance(actual, (int, float)) and not isinstance(actual, bool):
        return math.isclose(expected, actual, rel_tol=tolerance, abs_tol=tolerance)
    return type(expected) is type(actual) and bool(expected == actual)


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
