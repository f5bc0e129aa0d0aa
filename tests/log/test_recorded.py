"""`auditlog.recorded`: what notebooks and jobs do with it, and what is in the log."""

import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.ensemble import IsolationForest
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

import auditlog
from auditlog.core.errors import ConfigurationError
from auditlog.core.record import format_id
from auditlog.core.verify import verify_receipt
from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.log.recorded import RecordedEstimator
from auditlog.log.runtime import stop_all
from auditlog.storage import Query
from auditlog.testing import Decisions, capture
from tests.log.builders import ORIGIN

X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [3.0, 1.0]])
Y = np.array([0, 0, 1, 1])


@pytest.fixture
def decisions() -> Iterator[Decisions]:
    with capture() as found:
        yield found


@pytest.fixture
def estimator() -> Any:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(X, Y)


@pytest.fixture
def model(estimator: Any) -> RecordedEstimator:
    return auditlog.recorded(estimator, "credit", version="3")


@pytest.mark.parametrize("method", ["predict", "predict_proba", "decision_function"])
def test_a_call_returns_what_the_estimator_returns_and_is_a_decision(
    decisions: Decisions, estimator: Any, model: RecordedEstimator, method: str
) -> None:
    answer = getattr(model, method)(X[:2])
    expected = getattr(estimator, method)(X[:2])
    assert type(answer) is type(expected)
    assert answer.tobytes() == expected.tobytes()
    (decision,) = decisions
    assert (decision.model, decision.version) == ("credit", "3")
    assert decision.entry["operation"] == method
    assert decision.entry["model.digest"] == model.model.digest
    assert decision.json("request") == {"instances": X[:2].tolist()}
    assert decision.json("response") == {"predictions": expected.tolist()}


def test_scores_of_samples_are_recorded(decisions: Decisions) -> None:
    forest = IsolationForest(n_estimators=5, random_state=0).fit(X)
    model = auditlog.recorded(forest, "odd")
    assert (model.score_samples(X) == forest.score_samples(X)).all()
    assert [one.entry["operation"] for one in decisions] == ["score_samples"]


def test_everything_else_is_the_estimators(
    decisions: Decisions, estimator: Any, model: RecordedEstimator
) -> None:
    assert (model.classes_ == [0, 1]).all()
    assert model.score(X, Y) == estimator.score(X, Y)
    assert model.get_params() == estimator.get_params()
    assert model.estimator is estimator
    assert not hasattr(auditlog.recorded(LinearRegression().fit(X, Y), "m"), "classes_")
    assert not hasattr(model, "score_samples_of_nobody")
    assert repr(model).startswith("recorded(Pipeline(")
    check_is_fitted(model)
    with pytest.raises(NotFittedError):
        check_is_fitted(auditlog.recorded(LogisticRegression(), "m"))
    assert len(decisions) == 0


def test_a_row_opens_by_itself_and_its_model_is_told(
    estimator: Any, tmp_path: Path
) -> None:
    directory = tmp_path / "audit"
    model = auditlog.recorded(estimator, "credit", dir=directory, origin=ORIGIN)
    model.predict(X)
    stop_all()
    policy = (directory / "policy").read_text()
    with open_log(directory, read_only=True) as log:
        assert check_log(log).problems == ()
        (row,) = Reader(log).find(Query(type="auditlog.decision.v1"))
    assert row.model == "credit"
    id_ = format_id(row.id)
    with open_log(directory, read_only=True) as log:
        reader = Reader(log)
        paths = ["request/instances/2", "response/predictions/2"]
        verdict = verify_receipt(reader.receipt(id_, disclose=paths), policy)
        told = json.loads(reader.decision(id_).model or b"")
        parameters = reader.content(told["id"]).context["parameters"]
    assert verdict.disclosed == (
        ("request/instances/2", b"[2.0,2.0]"),
        ("response/predictions/2", b"1"),
    )
    assert told["data"]["model.details"]["class"] == "sklearn.pipeline.Pipeline"
    assert json.loads(parameters)["logisticregression__C"] == "1.0"


def test_what_the_estimator_raises_is_raised_and_recorded(
    decisions: Decisions, model: RecordedEstimator
) -> None:
    with pytest.raises(ValueError, match="features"):
        model.predict([[1.0, 2.0, 3.0]])
    (decision,) = decisions
    assert decision.outcome == "error"
    assert decision.json("request") == {"instances": [[1.0, 2.0, 3.0]]}


def test_after_a_new_fit_it_is_another_model(
    decisions: Decisions, model: RecordedEstimator
) -> None:
    before = model.model
    model.predict(X)
    assert model.fit(X, [1, 0, 1, 0]) is model
    model.predict(X)
    digests = [one.entry["model.digest"] for one in decisions]
    assert digests == [before.digest, model.model.digest]
    assert digests[0] != digests[1]
    assert model.set_params(logisticregression__C=3.0) is model
    assert model.model.digest not in digests


class Frame:
    """Rows with names, as pandas has them; polars' `to_dicts` is the same."""

    columns = ("age", "sex")

    def to_dict(self, orient: str) -> list[dict[str, Any]]:
        assert orient == "records"
        return [{"age": np.int64(41), "sex": "f"}, {"age": float("nan"), "sex": None}]


class Lines:
    def to_dicts(self) -> list[dict[str, Any]]:
        return [{"age": 41}]


class Anything(BaseEstimator):  # type: ignore[misc]
    """Predicts whatever it is asked to."""

    def predict(self, X: Any, how: Any = None, **more: Any) -> Any:  # noqa: N803
        return how


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (Frame(), [{"age": 41, "sex": "f"}, {"age": None, "sex": None}]),
        (Lines(), [{"age": 41}]),
        (scipy.sparse.csr_array([[0, 2]]), [[0, 2]]),
        (
            scipy.sparse.coo_array(([1.5, 2, 3], ([0, 1, 1], [7, 1, 1])), (2, 1 << 40)),
            [{"7": 1.5}, {"1": 5.0}],
        ),
        (np.array([[np.nan, np.inf, 1.5]]), [[None, "inf", 1.5]]),
        (np.array([["a", None]], dtype=object), [["a", None]]),
        (np.array(["2026-11-27"], dtype="datetime64[D]"), ["2026-11-27"]),
        (["text", "a\ud800"], ["text", "a?"]),
        ([{1: {2}, "b": b"x"}], [{"1": [2], "b": "b'x'"}]),
        ([1 << 70, True, np.float32(0.5)], [1 << 70, True, 0.5]),
        (7, 7),
    ],
    ids=range(11),
)
def test_rows_of_any_kind_are_said_in_json(
    decisions: Decisions, rows: Any, said: Any
) -> None:
    model = auditlog.recorded(Anything(), "any")
    assert model.predict(X=rows, how=rows) is rows
    (decision,) = decisions
    assert decision.json("request")["instances"] == said
    assert decision.json("response") == {"predictions": said}


def test_further_arguments_and_several_results_are_recorded(
    decisions: Decisions,
) -> None:
    model = auditlog.recorded(Anything(), "any")
    answer = (np.array([1.0]), np.array([0.1]))
    assert model.predict([[1]], answer, return_std=True) is answer
    (decision,) = decisions
    assert decision.json("request")["parameters"]["return_std"] is True
    assert decision.json("response") == {"predictions": [[1.0], [0.1]]}


def test_it_is_copied_and_stored_like_an_estimator(
    decisions: Decisions, model: RecordedEstimator, tmp_path: Path
) -> None:
    joblib.dump(model, tmp_path / "model.joblib")
    for other in (
        copy.copy(model),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
        joblib.load(tmp_path / "model.joblib"),
    ):
        other.predict(X)
        assert other.model == model.model
    assert len(decisions) == 4


def test_what_has_no_digest_cannot_be_recorded() -> None:
    with pytest.raises(ConfigurationError, match="a fitted estimator with get_params"):
        auditlog.recorded(object(), "m")
    model = Anything()
    model.hook = lambda: None
    with pytest.raises(ConfigurationError, match=r"but Anything\.hook is a func"):
        auditlog.recorded(model, "m")
