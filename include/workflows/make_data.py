"""Make the sample data of the sample workflows, out of what scikit-learn ships: the same bytes on every machine.

python include/workflows/make_data.py
"""

from __future__ import annotations

import csv
from datetime import date, timedelta
from pathlib import Path

from sklearn.datasets import load_breast_cancer

HERE = Path(__file__).parent
MEASUREMENTS = ["radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points",
                "symmetry", "fractal_dimension"]  # fmt: skip
FIRST_DAY = date(2026, 11, 1)
DAYS = 7


def main() -> None:
    """Write `data/cells.csv`: ten measurements of each patient's cell nuclei, the day they came in and a number."""
    measured = load_breast_cancer().data[:, : len(MEASUREMENTS)]
    with (HERE / "data" / "cells.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["patient", "day", *MEASUREMENTS])
        for number, row in enumerate(measured):
            writer.writerow([number, FIRST_DAY + timedelta(days=number % DAYS), *(repr(float(v)) for v in row)])


if __name__ == "__main__":
    main()
