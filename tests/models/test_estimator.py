"""The digest of a fitted estimator: the same in each process, another for another."""

import functools
import json
import os
import subprocess
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVC

from auditlog.core.errors import ConfigurationError
from auditlog.models.identity import Model

RNG = np.random.default_rng(7)
X = RNG.normal(size=(80, 4))
Y = (X[:, 0] + X[:, 1] > 0).astype(int)
WORDS = {"the", "a", "an", "of", "and", "or"}


@functools.cache
def fitted() -> dict[str, Any]:
    """Return estimators of each kind that keeps state in a way of its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        numbers = [
            LogisticRegression(),
            make_pipeline(StandardScaler(), LogisticRegression()),
            RandomForestClassifier(5, random_state=0),
            GradientBoostingClassifier(n_estimators=5, random_state=0),
            HistGradientBoostingClassifier(max_iter=5, random_state=0),
            IsolationForest(n_estimators=5, random_state=np.random.RandomState(3)),
            SVC(),
            KNeighborsClassifier(),
            MLPClassifier((4,), max_iter=20, random_state=0),
            GaussianNB(),
            SGDClassifier(random_state=0),
            GridSearchCV(LogisticRegression(), {"C": [0.1, 1.0]}, cv=2),
        ]
        for one in numbers:
            one.fit(X, Y)
        text = TfidfVectorizer(stop_words=sorted(WORDS), analyzer="word")
        texts = make_pipeline(text, LogisticRegression())
        texts.fit(["red green", "blue red", "green blue"], [0, 1, 0])
    return {type(one).__name__: one for one in numbers} | {"texts": texts}


def digests() -> dict[str, str | None]:
    return {name: digest_of(one) for name, one in fitted().items()}


def digest_of(estimator: Any) -> str | None:
    return Model.from_estimator(estimator, name="m").digest


def test_the_same_fit_has_the_same_digest_in_another_process() -> None:
    script = "import json, test_estimator as t; print(json.dumps(t.digests()))"
    here = str(Path(__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "12345", "PYTHONPATH": here},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    there = json.loads(done.stdout)
    assert there == digests()
    assert len(set(there.values())) == len(there)


def test_predicting_does_not_change_the_digest() -> None:
    for name, one in fitted().items():
        before = digest_of(one)
        one.predict(["red"] if name == "texts" else X[:2])
        assert digest_of(one) == before, name


def test_one_changed_bit_of_a_coefficient_changes_it() -> None:
    one = LogisticRegression().fit(X, Y)
    before = digest_of(one)
    one.coef_[0, 2] = np.nextafter(one.coef_[0, 2], np.inf)
    assert digest_of(one) != before


def test_one_changed_leaf_of_a_tree_changes_it() -> None:
    one = RandomForestClassifier(3, random_state=0).fit(X, Y)
    before = digest_of(one)
    one.estimators_[1].tree_.value[0, 0, 0] += 1e-9
    assert digest_of(one) != before


def test_a_parameter_a_class_and_a_type_count() -> None:
    one = LogisticRegression().fit(X, Y)
    before = digest_of(one)
    assert digest_of(one.set_params(C=2.0)) != before
    one.set_params(C=1.0)
    assert digest_of(one) == before
    one.coef_ = one.coef_.astype(np.float32)
    assert digest_of(one) != before


class Holder(BaseEstimator):  # type: ignore[misc]
    """An estimator that holds anything."""

    def __init__(self, value: Any = None) -> None:
        self.value = value


def of(value: Any) -> str | None:
    return digest_of(Holder(value))


def a_function() -> None:
    """Has a name."""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x", "y", "z"}, {"z", "y", "x"}),
        (np.eye(3), np.asfortranarray(np.eye(3))),
        (np.arange(4, dtype="<i4"), np.arange(4, dtype="<i4")[::1]),
        (np.arange(8)[::2], np.arange(0, 8, 2)),
        (scipy.sparse.csr_array(np.eye(3)), scipy.sparse.csr_array(np.eye(3))),
        (functools.partial(a_function), functools.partial(a_function)),
        (np.random.RandomState(1), np.random.RandomState(1)),
        (np.random.default_rng(1), np.random.default_rng(1)),
        (np.array([b"a", None], dtype=object), np.array([b"a", None], dtype=object)),
    ],
)
def test_what_is_equal_has_one_form(one: Any, other: Any) -> None:
    assert of(one) == of(other)


def test_what_differs_has_another() -> None:
    """Also where Python finds it equal, or its bytes run into each other."""
    values: list[Any] = [
        *(None, False, 0, 0.0, -0.0, "", b"", (), [], {}, set()),
        *(True, 1, 1.0, 1 + 0j, "1", b"1", (1,), [1], {1: 1}, {1}, [[1]], [1, 1]),
        *(["ab", "c"], ["a", "bc"], ["abc"], [b"abc"], {"a": {"b": 1}}, {"a": "b"}),
        *(np.float64(1), np.float32(1), np.int64(1), np.array([1]), np.array([[1]])),
        *(np.array(["1"]), np.array([1], dtype=object), np.array([b"1"])),
        *(np.array([1], dtype=">i8"), np.zeros(3), np.zeros((1, 3)), np.zeros((3, 1))),
        *(a_function, digest_of, int, str, Holder, len, np.add),
        *(functools.partial(a_function), functools.partial(of, 1)),
        *(Holder(), Holder(1), Holder("1"), range(3), range(4), slice(1), slice(2)),
        *(scipy.sparse.csr_array(np.eye(2)), scipy.sparse.csr_array(2 * np.eye(2))),
        *(np.random.RandomState(1), np.random.RandomState(2), np.random.default_rng(1)),
    ]
    found = [of(value) for value in values]
    twice = [v for v, d in zip(values, found, strict=True) if found.count(d) > 1]
    # By their values: an order of bytes is how they are stored.
    assert [str(one) for one in twice] == [], twice


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}.get, {"a": 2}.get),
        ({"mean_fit_time": 1}, {"mean_fit_time": 2}),
        ({"refit_time_": 1}, {"refit_time_": 2}),
        (
            np.ma.array([1.0, 2.0], mask=[False, False]),
            np.ma.array([1.0, 2.0], mask=[False, True]),
        ),
        (np.ma.array([1.0, 2.0], mask=[False, False]), np.array([1.0, 2.0])),
        (np.ma.array([1, None]), np.ma.array([1, None], mask=[False, True])),
        (
            scipy.sparse.coo_array(np.ones((2, 2, 2))),
            scipy.sparse.coo_array(2 * np.ones((2, 2, 2))),
        ),
    ],
)
def test_what_only_looks_alike_has_another_form(one: Any, other: Any) -> None:
    """Methods of two dictionaries, words that name a duration elsewhere, masks."""
    assert of(one) != of(other)


@pytest.mark.parametrize("dtype", [float, object, "U1", [("a", float), ("b", "i4")]])
def test_what_stands_under_a_mask_is_not_part_of_it(dtype: Any) -> None:
    """Nobody wrote it: it is what memory held before."""
    one, other = np.zeros(3, dtype), np.zeros(3, dtype)
    other[1] = np.ones(3, dtype)[1]
    assert of(one) != of(other)
    mask = [False, True, False]
    assert of(np.ma.array(one, mask=mask)) == of(np.ma.array(other, mask=mask))


@pytest.mark.skipif(
    np.finfo(np.longdouble).nmant != 63, reason="only there it has padding"
)
@pytest.mark.parametrize("dtype", [np.longdouble, np.clongdouble])
def test_padding_that_nobody_wrote_is_not_part_of_it(dtype: Any) -> None:
    one, other = np.ones((2, 2), dtype), np.ones((2, 2), dtype)
    other.view(np.uint8).reshape(-1, np.dtype("g").itemsize)[:, 10:] = 7
    assert of(one) == of(other)
    other[1, 1] = np.nextafter(np.longdouble(1), np.longdouble(2))
    assert of(one) != of(other)


def test_a_search_over_several_grids_has_one_digest() -> None:
    """Its results have a masked array for what is in one grid only."""
    grids = [{"kernel": ["rbf"], "gamma": [0.1]}, {"kernel": ["poly"], "coef0": [0.5]}]
    search = GridSearchCV(SVC(), grids, cv=2).fit(X, Y)
    before = digest_of(search)
    results = search.cv_results_
    results["param_gamma"].data[1] = 7.0
    results["mean_fit_time"] += 1.0
    search.refit_time_ += 1.0
    assert digest_of(search) == before
    results["mean_test_score"][0] += 1e-9
    assert digest_of(search) != before


class Broken:
    """Says of itself what pickling could not use either."""

    def __reduce_ex__(self, protocol: object) -> Any:
        return 5


@pytest.mark.parametrize(
    ("value", "where", "why"),
    [
        (np.frompyfunc(len, 1, 1), "Holder.value", "has a name that leads nowhere"),
        (Broken(), "Holder.value", f"is a {__name__}.Broken, which cannot be taken"),
        (lambda x: x, "Holder.value", "is a function or class without a name"),
        (
            [1, threading.Lock()],
            "Holder.value[1]",
            "is a _thread.lock, which cannot be",
        ),
        ({"a": memoryview(b"")}, "Holder.value.a", "is a builtins.memoryview, which"),
        ({7: sys}, "an item of Holder.value", "is a builtins.module, which cannot be"),
        (np.array([lambda: 0]), "Holder.value[0]", "is a function or class without"),
    ],
)
def test_what_has_no_canonical_form_is_named(value: Any, where: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        of(value)
    assert f"but {where} {why}" in str(caught.value)


def test_what_holds_itself_is_refused() -> None:
    holder = Holder()
    holder.value = [holder]
    with pytest.raises(ConfigurationError, match="refers to what it is a part of"):
        digest_of(holder)
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(ConfigurationError, match="is nested too deep"):
        of(deep)


@pytest.mark.parametrize("given", [None, "model", LogisticRegression, object()])
def test_what_is_no_estimator_is_refused(given: object) -> None:
    with pytest.raises(ConfigurationError, match="a fitted estimator with get_params"):
        digest_of(given)


def test_versions_stand_in_clear_and_parameters_are_sealed() -> None:
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=0.5)).fit(X, Y)
    model = Model.from_estimator(pipeline, name="credit", version="3")
    details = dict(model.details)
    assert details["class"] == "sklearn.pipeline.Pipeline"
    assert details["format"] == "estimator"
    assert details["numpy.version"] == np.__version__
    assert details.keys() == {
        *("class", "format", "numpy.version", "python.version", "sklearn.version")
    }
    (name, text), *_ = model.sealed
    assert name == "parameters"
    parameters = json.loads(text)
    assert parameters["logisticregression__C"] == "0.5"
    assert parameters["logisticregression__max_iter"] == 100
    assert parameters["standardscaler"].startswith("<sklearn.preprocessing._data.")
    assert parameters["verbose"] is False


def test_parameters_of_any_kind_are_told_by_value_or_by_type() -> None:
    values = {
        "none": None,
        "nan": float("nan"),
        "large": 1 << 70,
        "text": "x" * 5000,
        "items": [1, 0.5, "a", {"b": (np.float64(0.25),)}],
        "array": np.zeros(3),
        "function": a_function,
    }

    class Many(BaseEstimator):  # type: ignore[misc]
        def get_params(self, deep: bool = True) -> dict[str, Any]:
            return values

    Many.__qualname__ = "Many"
    parameters = json.loads(Model.from_estimator(Many(), name="m").sealed[0][1])
    assert parameters == {
        "none": None,
        "nan": "nan",
        "large": str(1 << 70),
        "text": "<builtins.str>",
        "items": [1, "0.5", "a", {"b": ["0.25"]}],
        "array": "<numpy.ndarray>",
        "function": f"{__name__}.a_function",
    }


def test_a_function_is_known_by_its_name_only() -> None:
    one = FunctionTransformer(np.log1p).fit(X)
    assert digest_of(one) == digest_of(FunctionTransformer(np.log1p).fit(X))
    assert digest_of(one) != digest_of(FunctionTransformer(np.sqrt).fit(X))
