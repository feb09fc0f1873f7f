"""Trains the sample bundles' artifacts: `python train.py [ROOT]` writes into each
`ROOT/<name>/model_bundle/`.

The data ships inside scikit-learn's own wheel, so nothing is downloaded. Everything is seeded, and the split
is fixed: the same library versions write the same artifacts. Needs `requirements-dev.txt`; the results are
committed, so only who changes a model needs to run it.

- breast-cancer: W. Wolberg and others, 1993, 569 aspirates.
- diabetes-boosted: B. Efron and others, Least Angle Regression, 2004, 442 patients.
- wine-no-sample: M. Forina and others, 1991, 178 wines.
"""

from __future__ import annotations

import json
import pickle
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pandas as pd
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, r2_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).resolve().parent
SEED = 20240501
SAMPLE_ROWS = 3
# Protocol 4 is plain to every scanner, and read by every Python that Slipway supports.
PICKLE_PROTOCOL = 4


def save_pickle(path: Path, value: Any) -> None:
    """A plain pickle: joblib's format puts raw arrays between the opcodes, where scanners lose the thread."""
    path.write_bytes(pickle.dumps(value, protocol=PICKLE_PROTOCOL))


def save_sample(bundle: Path, frame: pd.DataFrame) -> None:
    """`sample_input.json` in MLflow's `dataframe_split` form, one row of data a line."""
    columns = json.dumps([str(column) for column in frame.columns])
    rows = ",\n      ".join(json.dumps(row) for row in frame.to_numpy(dtype=float).tolist())
    body = f'"columns": {columns},\n    "data": [\n      {rows}\n    ]'
    text = f'{{\n  "dataframe_split": {{\n    {body}\n  }}\n}}\n'
    (bundle / "sample_input.json").write_text(text, encoding="utf-8")


def breast_cancer(bundle: Path) -> str:
    """A scaler and a logistic regression, trained through the bundle's own `features.py`."""
    sys.path.insert(0, str(HERE / "breast-cancer" / "model_bundle" / "code"))
    features = import_module("features")
    measurements, with_shape = features.MEASUREMENTS, features.with_shape

    data = load_breast_cancer(as_frame=True)
    frame = data.data.rename(columns={f"mean {name.replace('_', ' ')}": name for name in measurements})
    labels = data.target.map(dict(enumerate(data.target_names)))
    train, test, train_labels, test_labels = train_test_split(
        frame[measurements], labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    scaler = StandardScaler().fit(with_shape(train).to_numpy())
    classifier = LogisticRegression(max_iter=1000).fit(
        scaler.transform(with_shape(train).to_numpy()), train_labels.to_numpy(dtype=object)
    )
    save_pickle(bundle / "artifacts" / "scaler.pkl", scaler)
    save_pickle(bundle / "artifacts" / "classifier.pkl", classifier)
    save_sample(bundle, test.head(SAMPLE_ROWS))
    predicted = classifier.predict(scaler.transform(with_shape(test).to_numpy()))
    return f"accuracy {accuracy_score(test_labels, predicted):.3f} on {len(test)} rows held out"


def diabetes_boosted(bundle: Path) -> str:
    """Gradient-boosted trees on the raw measurements, saved in XGBoost's JSON."""
    names = {"s1": "tc", "s2": "ldl", "s3": "hdl", "s4": "tch", "s5": "ltg", "s6": "glu"}
    data = load_diabetes(as_frame=True, scaled=False)
    frame = data.data.rename(columns=names)
    train, test, train_target, test_target = train_test_split(frame, data.target, test_size=0.25, random_state=SEED)
    trees = xgboost.train(
        {
            "objective": "reg:squarederror",
            "max_depth": 3,
            "eta": 0.08,
            "subsample": 0.8,
            "seed": SEED,
            "nthread": 1,
        },
        xgboost.DMatrix(train, train_target),
        num_boost_round=60,
    )
    trees.save_model(bundle / "artifacts" / "trees.json")
    save_sample(bundle, test.head(SAMPLE_ROWS))
    return f"R² {r2_score(test_target, trees.predict(xgboost.DMatrix(test))):.3f} on {len(test)} rows held out"


def wine_no_sample(bundle: Path) -> str:
    """A small random forest; this bundle has no sample input, on purpose."""
    data = load_wine(as_frame=True)
    frame = data.data.rename(columns={"od280/od315_of_diluted_wines": "od280_od315_of_diluted_wines"})
    labels = data.target.map({0: "cultivar_1", 1: "cultivar_2", 2: "cultivar_3"})
    train, test, train_labels, test_labels = train_test_split(
        frame, labels, test_size=0.25, random_state=SEED, stratify=labels
    )
    forest = RandomForestClassifier(n_estimators=15, max_depth=4, random_state=SEED, n_jobs=1)
    forest.fit(train, train_labels.to_numpy(dtype=object))
    save_pickle(bundle / "artifacts" / "forest.pkl", forest)
    return f"accuracy {accuracy_score(test_labels, forest.predict(test)):.3f} on {len(test)} rows held out"


TRAINERS: dict[str, Callable[[Path], str]] = {
    "breast-cancer": breast_cancer,
    "diabetes-boosted": diabetes_boosted,
    "wine-no-sample": wine_no_sample,
}


def train(root: Path) -> None:
    """Write every bundle's artifacts and sample below `root`, saying how good each model is."""
    for name, trainer in TRAINERS.items():
        bundle = root / name / "model_bundle"
        (bundle / "artifacts").mkdir(parents=True, exist_ok=True)
        print(f"{name}: {trainer(bundle)}")


if __name__ == "__main__":
    train(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
