"""Draw the time against workers and against rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def plot(found: list[dict[str, Any]], path: Path) -> None:
    """Write one picture with a panel for each master: seconds against rows, one line for each kind."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    measured = [result for result in found if "rows" in result]
    masters = sorted({result["master"] for result in measured})
    figure, panels = plt.subplots(1, len(masters), figsize=(5 * len(masters), 4), squeeze=False, sharey=True)
    for panel, master in zip(panels[0], masters, strict=True):
        for kind in sorted({result["kind"] for result in measured}):
            line = [result for result in measured if (result["kind"], result["master"]) == (kind, master)]
            points = sorted((result["rows"] / 1e6, result["seconds"]) for result in line)
            panel.plot([rows for rows, _ in points], [seconds for _, seconds in points], marker="o", label=kind)
        panel.set(title=master, xlabel="million rows", ylabel="seconds")
        panel.legend()
    figure.tight_layout()
    figure.savefig(path)
