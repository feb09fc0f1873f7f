"""The same logistic regression as a BentoML service with batching, run by BentoML's own environment."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import bentoml
import numpy as np


@bentoml.service(workers=1, logging={"access": {"enabled": False}})
class Linear:
    """One worker, BentoML's default batching."""

    def __init__(self) -> None:
        self._model = pickle.loads(Path(os.environ["BENTO_MODEL"]).read_bytes())

    @bentoml.api(batchable=True)
    def predict(self, rows: np.ndarray) -> np.ndarray:
        """Labels of rows of thirty numbers."""
        return self._model.predict(rows)
