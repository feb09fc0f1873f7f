"""Which of three cultivars a wine was pressed from, by a forest on its chemical analysis."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd


class CustomPreprocessor:
    """Answers, for each row, the name of a cultivar."""

    def load(self, artifacts: Path) -> None:
        """Read the forest; it remembers the names of its columns."""
        self.forest = pickle.loads((artifacts / "forest.pkl").read_bytes())

    def predict(self, frame: pd.DataFrame) -> np.ndarray:
        """One string per row."""
        return self.forest.predict(frame[list(self.forest.feature_names_in_)])
