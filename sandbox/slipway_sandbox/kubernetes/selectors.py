"""Label and field selectors, as in query strings and in objects.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["matches_fields", "matches_labels", "selects"]

_SET = re.compile(r"\s*(\S+)\s+(in|notin)\s+\(([^)]*)\)\s*")


def matches_labels(selector: str, labels: dict[str, str]) -> bool:
    """Whether labels satisfy a selector such as `a=b,c!=d,e in (f, g),h,!i`."""
    return all(_label(part, labels) for part in re.split(r",(?![^(]*\))", selector) if part.strip())


def _label(part: str, labels: dict[str, str]) -> bool:
    if found := _SET.fullmatch(part):
        name, operator, listed = found.groups()
        values = {value.strip() for value in listed.split(",")}
        return (labels.get(name) in values) == (operator == "in")
    for operator in ("!=", "==", "="):
        if operator in part:
            name, value = (text.strip() for text in part.split(operator, 1))
            return (labels.get(name) == value) == (operator != "!=")
    part = part.strip()
    return part[1:] not in labels if part.startswith("!") else part in labels


def matches_fields(selector: str, found: dict[str, Any]) -> bool:
    """Whether an object satisfies a field selector such as `metadata.name=a,status.phase!=Running`."""
    for part in selector.split(","):
        if not part.strip():
            continue
        negated = "!=" in part
        name, value = re.split(r"!=|==?", part, maxsplit=1)
        node: Any = found
        for step in name.strip().split("."):
            node = node.get(step) if isinstance(node, dict) else None
        if (str("" if node is None else node) == value.strip()) == negated:
            return False
    return True


def selects(selector: dict[str, str], labels: dict[str, str] | None) -> bool:
    """Whether a map of labels is part of another; an empty one selects nothing."""
    return bool(selector) and selector.items() <= (labels or {}).items()
