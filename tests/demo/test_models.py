import hashlib
import math
import pickle

import pytest

from demo_service.models import Model, load_data, train_models


@pytest.fixture(params=["1", "2"])
def model(request: pytest.FixtureRequest) -> Model:
    return train_models()[request.param]


def test_the_digest_is_that_of_the_pickled_estimator(model: Model) -> None:
    artifact = pickle.dumps(model.estimator, protocol=5)
    assert model.digest == f"sha256:{hashlib.sha256(artifact).hexdigest()}"


def test_training_again_gives_the_same_model(model: Model) -> None:
    again = train_models.__wrapped__()[model.version]
    assert again.estimator is not model.estimator
    assert again.digest == model.digest


def test_the_two_versions_are_different_models() -> None:
    first, second = train_models().values()
    assert first.digest != second.digest
    rows = load_data().test_rows()
    assert first.predict(rows) != second.predict(rows)


def test_the_models_are_good_at_rows_that_they_never_saw(model: Model) -> None:
    data = load_data()
    _, classes = data.test
    labels = [found.label for found in model.predict(data.test_rows())]
    truth = ["malignant" if number == 0 else "benign" for number in classes.tolist()]
    right = sum(ours == true for ours, true in zip(labels, truth, strict=True))
    assert right / len(truth) > 0.9


def test_a_score_is_a_probability_and_agrees_with_its_label(model: Model) -> None:
    for label, score in model.predict(load_data().test_rows()):
        assert 0 <= score <= 1
        assert math.isclose(score, round(score, 6))
        assert (label == "malignant") == (score >= 0.5)


def test_test_rows_name_all_measurements_in_plain_floats() -> None:
    data = load_data()
    rows = data.test_rows()
    assert len(rows) == 171
    assert all(tuple(row) == data.features for row in rows)
    assert {type(value) for row in rows for value in row.values()} == {float}
