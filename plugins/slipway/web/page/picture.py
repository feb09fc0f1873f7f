"""The way of a version, as one SVG: bundle → version → image or environment → endpoints; what is done, what is not.

Looks come from the page's style sheet by class, so the picture follows the theme; all text is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

__all__ = ["Box", "way"]

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 216, 84, 44, 16, 4
_LONGEST = 30


@dataclass(frozen=True)
class Box:
    """One station of the way.

    :param look: `done`, `live`, `now`, `failed` or `todo`.
    :param href: where a click leads.
    """

    kind: str
    title: str
    note: str
    look: str
    href: str = ""


def way(columns: Sequence[Sequence[Box]], label: str) -> Markup:
    """Draw the stations, a column for each stage; each station is joined to all of the stage before it."""
    tallest = max(len(column) for column in columns)
    height = 2 * _MARGIN + tallest * (_HEIGHT + _GAP_Y) - _GAP_Y
    width = 2 * _MARGIN + len(columns) * (_WIDTH + _GAP_X) - _GAP_X
    shapes: list[Markup] = []
    for number, column in enumerate(columns):
        for row, box in enumerate(column):
            x, y = _place(number, row, len(column), height)
            if number:
                before = columns[number - 1]
                for earlier in range(len(before)):
                    from_x, from_y = _place(number - 1, earlier, len(before), height)
                    shapes.insert(0, _edge(from_x + _WIDTH, from_y + _HEIGHT // 2, x, y + _HEIGHT // 2, box.look))
            shapes.append(_box(box, x, y))
    return Markup(
        '<svg class="way" viewBox="0 0 {} {}" width="{}" height="{}" role="img" aria-label="{}">{}</svg>'
    ).format(width, height, width, height, label, Markup("").join(shapes))


def _place(column: int, row: int, rows: int, height: int) -> tuple[int, int]:
    top = (height - rows * (_HEIGHT + _GAP_Y) + _GAP_Y) // 2
    return _MARGIN + column * (_WIDTH + _GAP_X), top + row * (_HEIGHT + _GAP_Y)


def _edge(x1: int, y1: int, x2: int, y2: int, look: str) -> Markup:
    bend = (x1 + x2) // 2
    return Markup('<path class="edge {}" d="M{} {}C{} {} {} {} {} {}"/>').format(
        look, x1, y1, bend, y1, bend, y2, x2, y2
    )


def _box(box: Box, x: int, y: int) -> Markup:
    body = Markup(
        '<g class="box {}"><title>{}: {} ({})</title><rect x="{}" y="{}" width="{}" height="{}" rx="8"/>'
        '<circle cx="{}" cy="{}" r="4"/><text class="kind" x="{}" y="{}">{}</text>'
        '<text class="title" x="{}" y="{}">{}</text><text class="note" x="{}" y="{}">{}</text></g>'
    ).format(
        *(box.look, box.kind, box.title, box.note, x, y, _WIDTH, _HEIGHT, x + 16, y + 19),
        *(x + 27, y + 23, box.kind, x + 14, y + 47, _cut(box.title), x + 14, y + 68, _cut(box.note)),
    )
    return Markup('<a href="{}">{}</a>').format(box.href, body) if box.href else body


def _cut(text: str) -> Markup:
    return escape(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")
