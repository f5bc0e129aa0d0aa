"""What look-ups take and give: one spelling in, one shape out."""

from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from auditlog.core.errors import MalformedError
from auditlog.log.reader import DecisionView
from auditlog.log.views import (
    decision_json,
    page_json,
    parse_leaf,
    parse_moment,
    parse_number,
)
from auditlog.storage import IndexRow

ID = "01995e6c-0000-7000-8000-000000000000"
ROW = IndexRow(7, bytes.fromhex(ID.replace("-", "")), "auditlog.decision.v1", 0)


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01Z", 1_000_000),
        ("1970-01-01T00:01", 60_000_000),
        ("1970-01-01 00:00:00.000001", 1),
        ("1970-01-01T01:00:00+01:00", 0),
        ("2026-08-01T09:30:00-02:30", 1_785_585_600_000_000),
    ],
)
def test_moments(text: str, microseconds: int) -> None:
    assert parse_moment(text) == microseconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2026", "2026-1-1", "20260801", "2026-02-30", "1969-12-31"),
        *("2026-08-01T24:01Z", "1970-01-01T00:00+01:00", "2026-W31-1", "٢٠٢٦-08-01"),
        *(" 2026-08-01", "2026-08-01T09:30:00.1234567Z", "2026-08-01T09:30:00z"),
        "2026-08-01Z\n",
    ],
)
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(MalformedError, match="expected a date or time since 1970"):
        parse_moment(text)


@given(st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_every_rfc_3339_time_is_a_moment(moment: datetime) -> None:
    microseconds = parse_moment(moment.isoformat())
    assert divmod(microseconds, 10**6) == (
        int(moment.replace(microsecond=0).timestamp()),
        moment.microsecond,
    )


@given(st.text())
@example("9999-12-31T23:59:59-23:59")
@example("0001-01-01T00:00:00+23:59")
def test_any_text_is_a_moment_a_number_a_leaf_or_refused(text: str) -> None:
    for parse in (parse_moment, parse_number, parse_leaf):
        try:
            parse(text)
        except MalformedError as error:
            assert len(str(error)) < 1000  # noqa: PT017 - others pass


def test_numbers_have_one_spelling_and_limits() -> None:
    assert parse_number("0") == 0
    assert parse_number(str((1 << 63) - 1)) == (1 << 63) - 1
    for text in ("", "00", "+1", "-1", "1 ", "1_0", "٣", "0x1", str(1 << 63)):
        with pytest.raises(MalformedError, match="expected a whole number from 0 to"):
            parse_number(text)
    with pytest.raises(MalformedError, match="from 1 to 5, got '6'"):
        parse_number("6", low=1, high=5)


def test_leaves_have_one_spelling() -> None:
    assert parse_leaf("0f" * 32) == b"\x0f" * 32
    for text in ("", "0F" * 32, "0f" * 31, "0f" * 33, "0f" * 32 + "\n"):
        with pytest.raises(MalformedError, match="64 lower-case hex digits"):
            parse_leaf(text)


def test_a_page_names_the_next_one_only_if_there_is_one() -> None:
    rows = [ROW._replace(index=index) for index in (9, 8, 7)]
    assert page_json(rows, 2)["next"] == "8"
    assert len(page_json(rows, 2)["decisions"]) == 2
    assert page_json(rows, 3)["next"] is None
    assert page_json([], 3) == {"decisions": [], "next": None}


def test_an_opened_decision_has_no_entry_yet() -> None:
    view = DecisionView(ID, None, None, "opened")
    assert decision_json(view) == {
        "id": ID,
        "level": "opened",
        "leaf": None,
        "data": None,
        "entry": None,
        "vault": None,
        "amendments": [],
        "ranOn": None,
    }
