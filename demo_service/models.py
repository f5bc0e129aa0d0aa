"""Two versions of one model, trained at start on data that ships with scikit-learn.

The task is the Wisconsin breast cancer data: thirty measurements of cell nuclei, and
whether the tumour was malignant. Version 1 is a logistic regression on scaled
measurements, version 2 is gradient boosting. Both train in well under a second, from a
fixed seed, so that two starts on one machine give the same models.
"""

import hashlib
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

__all__ = ["NAME", "Data", "Model", "Prediction", "load_data", "train_models"]

NAME = "breast-cancer"
"""Name of the model, in the log and in the service's answers."""
_SEED = 20_240
_MALIGNANT = 0
"""Class number of malignant tumours in the data set."""


class Prediction(NamedTuple):
    """What a model says about one row."""

    label: Literal["malignant", "benign"]
    score: float
    """Probability of ``malignant``, 0 to 1, six decimals."""


class Data(NamedTuple):
    """The data set, split once and for all."""

    features: tuple[str, ...]
    """Names of the thirty measurements, in the order of the columns."""
    train: tuple[Any, Any]
    """Rows and classes to learn from, as arrays (n, 30) and (n,)."""
    test: tuple[Any, Any]
    """Rows and classes that no model has seen."""

    def test_rows(self) -> list[dict[str, float]]:
        """Return the rows that no model has seen, each as measurements by name."""
        rows, _ = self.test
        return [dict(zip(self.features, row, strict=True)) for row in rows.tolist()]


@dataclass(frozen=True, slots=True)
class Model:
    """A trained model, ready to serve."""

    version: str
    digest: str
    """``sha256:`` and hex over the pickled estimator: the bytes that a model registry
    would store. Whoever has that file can check that it is what decided."""
    features: tuple[str, ...]
    estimator: Any

    def predict(self, rows: Sequence[Mapping[str, float]]) -> list[Prediction]:
        """Score `rows`, each with a finite number for every name in `features`."""
        table = [[row[name] for name in self.features] for row in rows]
        scores = self.estimator.predict_proba(table)[:, _MALIGNANT].tolist()
        return [_prediction(score) for score in scores]


@cache
def load_data() -> Data:
    """Return the data set, three tenths of it held back as test rows."""
    bunch = load_breast_cancer()
    train_rows, test_rows, train_classes, test_classes = train_test_split(
        bunch.data,
        bunch.target,
        test_size=0.3,
        random_state=_SEED,
        stratify=bunch.target,
    )
    names = tuple(str(name) for name in bunch.feature_names)
    return Data(names, (train_rows, train_classes), (test_rows, test_classes))


@cache
def train_models() -> Mapping[str, Model]:
    """Train both versions and return them by version."""
    data = load_data()
    estimators = {
        "1": make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)),
        "2": GradientBoostingClassifier(n_estimators=40, random_state=_SEED),
    }
    return {
        version: _trained(version, estimator, data)
        for version, estimator in estimators.items()
    }


def _trained(version: str, estimator: Any, data: Data) -> Model:
    estimator.fit(*data.train)
    artifact = pickle.dumps(estimator, protocol=5)
    digest = f"sha256:{hashlib.sha256(artifact).hexdigest()}"
    return Model(version, digest, data.features, estimator)


def _prediction(score: float) -> Prediction:
    return Prediction("malignant" if score >= 0.5 else "benign", round(score, 6))
