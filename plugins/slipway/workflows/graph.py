"""A picture of a workflow: Mermaid text for documentation, SVG for a page. No library, no script, nothing to load."""

from __future__ import annotations

from html import escape

from slipway.workflows.definition import Definition, Node, ReadNode, ScoreNode, SqlNode, WriteNode

__all__ = ["mermaid", "svg"]

_WIDTH, _HEIGHT, _GAP_X, _GAP_Y, _MARGIN = 190, 52, 60, 24, 12
_COLOURS = {"read": "#dbeafe", "sql": "#fef3c7", "score": "#dcfce7", "write": "#ede9fe"}
_LONGEST_LABEL = 28


def mermaid(definition: Definition) -> str:
    """Return the graph in Mermaid's language (https://mermaid.js.org/syntax/flowchart.html)."""
    lines = ["flowchart LR"]
    for node in definition.ordered:
        lines.append(f'  {node.id}["{node.id}<br/>{_about(node).replace(chr(34), "#quot;")}"]')
        lines += [f"  {name} --> {node.id}" for name in node.inputs]
    return "\n".join(lines) + "\n"


def svg(definition: Definition) -> str:
    """Return the graph as one SVG image: a column for each step away from the data."""
    column: dict[str, int] = {}
    rows: dict[int, int] = {}
    place: dict[str, tuple[int, int]] = {}
    for node in definition.ordered:
        column[node.id] = 1 + max((column[name] for name in node.inputs), default=-1)
        row = rows.get(column[node.id], 0)
        rows[column[node.id]] = row + 1
        place[node.id] = (
            _MARGIN + column[node.id] * (_WIDTH + _GAP_X),
            _MARGIN + row * (_HEIGHT + _GAP_Y),
        )
    width = _MARGIN * 2 + (max(rows) + 1) * (_WIDTH + _GAP_X) - _GAP_X
    height = _MARGIN * 2 + max(rows.values()) * (_HEIGHT + _GAP_Y) - _GAP_Y
    shapes = [_edge(place[name], place[node.id]) for node in definition.ordered for name in node.inputs]
    shapes += [_box(node, *place[node.id]) for node in definition.ordered]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'role="img" aria-label="Workflow {escape(definition.name)}" font-family="sans-serif">'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        '<path d="M0 0L8 4L0 8z" fill="#64748b"/></marker></defs>' + "".join(shapes) + "</svg>\n"
    )


def _box(node: Node, x: int, y: int) -> str:
    middle = x + _WIDTH // 2
    return (
        f'<g><title>{escape(_about(node, whole=True))}</title><rect x="{x}" y="{y}" width="{_WIDTH}" '
        f'height="{_HEIGHT}" rx="8" fill="{_COLOURS[node.type]}" stroke="#64748b"/>'
        f'<text x="{middle}" y="{y + 22}" text-anchor="middle" font-size="14" fill="#0f172a">{escape(_cut(node.id))}'
        f'</text><text x="{middle}" y="{y + 40}" text-anchor="middle" font-size="11" fill="#475569">'
        f"{escape(_about(node))}</text></g>"
    )


def _edge(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1, x2, y2 = start[0] + _WIDTH, start[1] + _HEIGHT // 2, end[0], end[1] + _HEIGHT // 2
    bend = (x1 + x2) // 2
    return (
        f'<path d="M{x1} {y1}C{bend} {y1} {bend} {y2} {x2} {y2}" fill="none" stroke="#64748b" marker-end="url(#tip)"/>'
    )


def _about(node: Node, *, whole: bool = False) -> str:
    match node:
        case ReadNode():
            text = f"{node.format} {node.path or ''}".strip()
        case SqlNode():
            text = " ".join(node.sql.split())
        case ScoreNode():
            version = f" v{node.version}" if node.version else f"@{node.alias}" if node.alias else ""
            text = f"{node.model}{version}"
        case WriteNode():
            text = f"{node.format} {node.path}"
    return text if whole else _cut(text)


def _cut(text: str) -> str:
    return text if len(text) <= _LONGEST_LABEL else f"{text[: _LONGEST_LABEL - 1]}…"
