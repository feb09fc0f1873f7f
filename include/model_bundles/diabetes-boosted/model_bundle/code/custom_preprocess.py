"""Progression of diabetes one year on, by gradient-boosted trees saved in XGBoost's own JSON."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xgboost


class CustomPreprocessor:
    """Answers, for each row, one number: the disease progression (25 to 346 in the training data)."""

    def load(self, artifacts: Path) -> None:
        """Read the trees; the file also holds the names of the features."""
        self.trees = xgboost.Booster(model_file=artifacts / "trees.json")

    def preprocess(self, frame: pd.DataFrame) -> xgboost.DMatrix:
        """The features in the order of training; a missing value is one to the trees too."""
        return xgboost.DMatrix(frame[self.trees.feature_names].astype("float64"))

    def predict(self, features: xgboost.DMatrix) -> np.ndarray:
        """One float per row."""
        return self.trees.predict(features)
