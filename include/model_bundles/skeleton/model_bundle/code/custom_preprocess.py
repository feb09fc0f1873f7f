"""The skeleton of a Slipway model: copy this folder, keep the names, fill in your own.

    model_bundle/
        artifacts/               what your model is made of: pickles, JSON, weights, …; any names, any depth
        code/
            custom_preprocess.py this file; its name and the class name are fixed
            *.py                 more of your own modules, imported as usual (`import my_module`)
        requirements.txt         what your code imports, as ranges; locked once, when you import the bundle
        sample_input.json        optional: a few rows; every deployment is checked against their answers
        bundle.yaml              optional: name, description, signature, batching

Zip it with `python zip_bundle.py FOLDER my-model.zip` (or any zip tool) and import it with the DAG
`import_bundle`.

The rules:
- The class is named `CustomPreprocessor`, takes no argument, and imports nothing of Slipway.
- A request is answered by `postprocess(predict(preprocess(frame)))`. Only `predict` is required: a method
  that you do not need is a method to delete.
- Your code runs in a virtual environment of its own, made from your requirements.txt, and never inside
  Airflow.
- There may be several copies of your object at once (one per worker process), so keep nothing that must be
  shared.
- Rows of several requests may be scored in one call, if Slipway saw at import that each row's answer depends
  on that row alone. `bundle.yaml` can turn that off: `batching: {enabled: false}`.
- Read files from `artifacts` only. The machine that serves you has neither your disk nor your network.

This one adds up a points table, so that the bundle works as it stands.
"""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd


class CustomPreprocessor:
    """One model: made with no argument, loaded once, and then scored with until the server ends."""

    def load(self, artifacts: Path) -> None:
        """Optional. Read what the model is made of; called once, before the first request.

        `artifacts` is the folder `artifacts/` of the bundle, read-only. Take your time: the endpoint gets its
        first request only when this returns. Raise whatever tells best what is wrong: the deploy fails with
        your message.
        """
        model = json.loads((artifacts / "points.json").read_text(encoding="utf-8"))
        self.base: float = model["base"]
        self.points = pd.Series(model["points"], dtype="float64")

    def preprocess(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Optional. Turn what clients send into what the model wants: choose and order columns, fill gaps,
        encode.

        `frame` has one row per thing to score, and the columns that the client named, in the client's order.
        A column that is not there is best left to fail with pandas' own `KeyError`, which names it.
        What this returns goes to `predict` as it is, so it may be a DataFrame, an array or anything else.
        """
        return frame[list(self.points.index)].astype("float64").fillna(0.0)

    def predict(self, frame: pd.DataFrame) -> pd.Series:
        """Required. One answer per row, in the order of the rows.

        Return a list, a Series, a NumPy array (one column or more) or a DataFrame. Its columns, if it has
        any, become the names in the JSON answer.
        """
        return frame.mul(self.points).sum(axis="columns") + self.base

    def postprocess(self, result: pd.Series) -> pd.DataFrame:
        """Optional. Turn the model's numbers into what clients read: labels, rounding, names of columns."""
        return pd.DataFrame(
            {
                "score": result,
                "decision": ["accept" if score >= 50 else "review" for score in result],
            }
        )
