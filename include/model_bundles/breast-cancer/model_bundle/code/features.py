"""The features of the breast-cancer model: the second code file of the bundle.

The model was trained through this very file, so training and serving cannot drift apart.
"""

from __future__ import annotations

import pandas as pd

MEASUREMENTS = [
    "radius",
    "texture",
    "perimeter",
    "area",
    "smoothness",
    "compactness",
    "concavity",
    "concave_points",
    "symmetry",
    "fractal_dimension",
]


def with_shape(frame: pd.DataFrame) -> pd.DataFrame:
    """The measurements, in the order of training, and one derived column.

    `roundness` is the area of the nucleus over that of a circle with the same radius (no unit).
    Each row depends on itself alone, so requests may be scored together.
    """
    measured = frame[MEASUREMENTS].astype("float64")
    return measured.assign(roundness=measured["area"] / (3.141592653589793 * measured["radius"] ** 2))
