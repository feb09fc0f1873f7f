"""Breast-cancer diagnosis from the cell nuclei of a fine-needle aspirate: a scaler, then a classifier."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
from features import with_shape


class CustomPreprocessor:
    """Answers, for each row, a diagnosis and the probability of that diagnosis."""

    def load(self, artifacts: Path) -> None:
        """Read the two artifacts once, when the scoring server starts."""
        self.scaler = pickle.loads((artifacts / "scaler.pkl").read_bytes())
        self.classifier = pickle.loads((artifacts / "classifier.pkl").read_bytes())

    def preprocess(self, frame: pd.DataFrame) -> np.ndarray:
        """Rows of measurements to rows of standardised features."""
        return self.scaler.transform(with_shape(frame).to_numpy())

    def predict(self, features: np.ndarray) -> np.ndarray:
        """Probabilities, one column per class, in the order of `classifier.classes_`."""
        return self.classifier.predict_proba(features)

    def postprocess(self, probabilities: np.ndarray) -> pd.DataFrame:
        """The likelier class of each row, and how likely it is."""
        likeliest = probabilities.argmax(axis=1)
        return pd.DataFrame(
            {
                "diagnosis": self.classifier.classes_[likeliest],
                "probability": probabilities.max(axis=1),
            }
        )
