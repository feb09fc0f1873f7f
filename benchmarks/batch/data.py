"""Rows to score: 30 columns of doubles like those of the breast-cancer data, in parquet files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_breast_cancer

FILE_ROWS = 250_000


def make_data(folder: Path, rows: int, *, noise: float = 0.0) -> Path:
    """Write `rows` rows, each a patient's as it was measured, or with noise of that share; made once.

    Without noise, parquet's dictionaries make reading and writing cheap, so that scoring is most of the work. With it,
    no value comes twice, and compressing 30 columns of it is most of the work, whoever scores.
    """
    if (folder / "_DONE").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    data = load_breast_cancer()
    # The model takes the ten means, by these names.
    names = [str(name).removeprefix("mean ").replace(" ", "_") for name in data.feature_names]
    random = np.random.default_rng(7)
    for number, start in enumerate(range(0, rows, FILE_ROWS)):
        count = min(FILE_ROWS, rows - start)
        chosen = data.data[random.integers(0, len(data.data), count)]
        measured = chosen * random.normal(1.0, noise, (count, 1)) if noise else chosen
        table = pa.table({name: measured[:, column] for column, name in enumerate(names)})
        pq.write_table(table, folder / f"part-{number:05}.parquet")
    (folder / "_DONE").touch()
    return folder
