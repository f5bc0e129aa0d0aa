"""What a witness does for one log, and for all, in a given time."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.web.witness_limits import Budget, per_day, per_second


class Clock:
    """Seconds that a test lets pass."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_what_is_saved_up_may_come_at_once_and_then_as_it_comes_back() -> None:
    clock = Clock()
    budget = Budget(0.5, 3, clock)
    assert [budget.take() for _ in range(5)] == [0, 0, 0, 2, 2]
    clock.now += 1
    assert budget.take() == 1
    clock.now += 1
    assert [budget.take() for _ in range(2)] == [0, 2]


def test_no_more_is_saved_up_than_that() -> None:
    clock = Clock()
    budget = Budget(0.5, 3, clock)
    clock.now += 1_000_000
    assert [budget.take() for _ in range(4)] == [0, 0, 0, 2]


@pytest.mark.parametrize(("qpd", "at_once"), [(86_400, 3600), (480, 20), (1, 20)])
def test_an_hour_of_a_day_may_come_at_once_and_never_less_than_a_few(
    qpd: int, at_once: int
) -> None:
    budget = per_day(qpd, Clock())
    assert [budget.take() for _ in range(at_once)] == [0] * at_once
    assert budget.take() == min(3600, -(-86_400 // qpd))


def test_two_seconds_may_come_at_once() -> None:
    budget = per_second(10, Clock())
    assert [budget.take() for _ in range(21)] == [0] * 20 + [1]


@given(
    rate=st.floats(0.001, 1000),
    most=st.integers(1, 50),
    steps=st.lists(st.floats(0, 100), max_size=60),
)
def test_never_more_in_any_time_than_that_time_allows(
    rate: float, most: int, steps: list[float]
) -> None:
    clock = Clock()
    budget = Budget(rate, most, clock)
    taken: list[float] = []
    for step in steps:
        clock.now += step
        wait = budget.take()
        assert 0 <= wait <= 3600
        if wait == 0:
            taken.append(clock.now)
    for first, since in enumerate(taken):
        allowed = most + (clock.now - since) * rate
        assert len(taken) - first <= allowed + 1e-6
