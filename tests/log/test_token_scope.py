"""What a token may see of the decisions, and until when it is good."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import MalformedError
from auditlog.core.record import MAX_INTEGER, format_id, parse_id
from auditlog.log.token_scope import (
    EVERYTHING,
    Scope,
    format_scope,
    make_scope,
    parse_expiry,
    parse_scope,
)
from auditlog.log.views import parse_moment
from auditlog.storage import IndexRow, Query
from tests.receipts import make_id

ONE, TWO = make_id(1), make_id(2)
NAMES = format_id(ONE), format_id(TWO)
NOW = 1_800_000_000.0
MAY, JUNE = parse_moment("2026-05-01"), parse_moment("2026-06-01")


def row(route: str | None = "/score", time: int = MAY, id_: bytes = ONE) -> IndexRow:
    return IndexRow(0, id_, "auditlog.decision.v1", time, route=route)


# --- text -----------------------------------------------------------------------------


def test_it_is_canonical_json_of_what_is_given() -> None:
    scope = make_scope(["/b*", "/a"], [NAMES[1], NAMES[0]], "2026-05-01", "2026-06-01")
    assert format_scope(scope) == (
        f'{{"decisions":["{NAMES[0]}","{NAMES[1]}"],"routes":["/a","/b*"],'
        f'"since":{MAY},"until":{JUNE}}}'
    )
    assert format_scope(make_scope(until="2026-06-01")) == f'{{"until":{JUNE}}}'


def test_nothing_given_narrows_nothing() -> None:
    assert make_scope() == EVERYTHING
    assert format_scope(EVERYTHING) is None
    assert parse_scope(None) == EVERYTHING
    assert EVERYTHING.is_everything
    assert not make_scope(["*"]).is_everything


_globs = st.text(st.characters(codec="utf-8", categories=["L", "P"]), min_size=1)
_scopes = st.builds(
    lambda routes, ids, since, until: Scope(
        tuple(sorted(routes)) or None,
        tuple(sorted(map(make_id, ids))) or None,
        since,
        until,
    ),
    st.sets(_globs.filter(lambda glob: glob.isprintable() and glob.count("*") < 5)),
    st.sets(st.integers(0, 9)),
    st.none() | st.integers(0, 1000),
    st.none() | st.integers(1001, MAX_INTEGER),
)


@given(_scopes)
def test_what_is_written_is_read(scope: Scope) -> None:
    assert parse_scope(format_scope(scope)) == scope


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("", "expected JSON"),
        ("null", "expected a scope with the fields"),
        ("{}", "expected a scope as it is written"),
        ('{"route":["*"]}', "expected a scope with the fields"),
        ('{"routes":"*"}', "expected list as routes of a scope, got str"),
        ('{"routes":[]}', "expected 1 to 64 routes in a scope, got 0"),
        ('{"routes":[1]}', "expected routes of a scope as texts"),
        ('{"routes":["b","a"]}', "expected routes of a scope once each, in order"),
        ('{"routes":["a","a"]}', "expected routes of a scope once each, in order"),
        ('{"routes":[""]}', "expected a route as 1 to 256 printable characters"),
        ('{"routes":["*****"]}', "with at most 4 *"),
        ('{"routes": ["a"]}', "expected a scope as it is written"),
        ('{"routes":["a"],"routes":["b"]}', "twice"),
        ('{"decisions":["x"]}', "a UUIDv7"),
        ('{"since":true}', "expected int as since of a scope, got bool"),
        ('{"since":-1}', "expected times of a scope since 1970"),
        ('{"since":5,"until":5}', "expected a scope that begins before it ends"),
        ('{"routes":["\ud800"]}', "expected a scope in UTF-8"),
    ],
)
def test_any_other_text_is_refused(text: str, because: str) -> None:
    with pytest.raises(MalformedError) as caught:
        parse_scope(text)
    assert because in str(caught.value)


@given(st.text())
def test_any_text_is_a_scope_or_our_error(text: str) -> None:
    with pytest.raises(MalformedError):
        parse_scope(text)


# --- what it covers -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("glob", "route", "fits"),
    [
        ("/score", "/score", True),
        ("/score", "/score/1", False),
        ("/score*", "/score/1", True),
        ("/*/score", "/a/b/score", True),
        ("*", "job", True),
        ("*", None, False),
        ("/Score", "/score", False),
        ("/s?ore", "/score", False),  # codespell:ignore ore
        ("/[s]core", "/score", False),
        ("/score", "/score\n", False),
    ],
)
def test_routes_by_glob(glob: str, route: str | None, fits: bool) -> None:
    assert make_scope([glob]).covers(ONE, row(route)) is fits


def test_a_decision_must_fit_everything_that_is_given() -> None:
    scope = make_scope(["/score", "/pay"], [NAMES[0]], "2026-05-01", "2026-06-01")
    assert scope.covers(ONE, row())
    assert scope.covers(ONE, row("/pay", JUNE - 1))
    assert not scope.covers(TWO, row())
    assert not scope.covers(ONE, row("/other"))
    assert not scope.covers(ONE, row(time=MAY - 1))
    assert not scope.covers(ONE, row(time=JUNE))


def test_of_what_is_only_opened_nothing_but_the_id_is_known() -> None:
    assert EVERYTHING.covers(ONE, None)
    assert make_scope(decisions=[NAMES[0]]).covers(ONE, None)
    assert not make_scope(decisions=[NAMES[0]]).covers(TWO, None)
    for scope in (make_scope(["*"]), make_scope(since="1970-01-01")):
        assert not scope.covers(ONE, None)
    both = make_scope(["*"], decisions=[NAMES[0]], until="2099-01-01")
    assert not both.covers(ONE, None)


def test_a_look_up_never_gets_wider() -> None:
    scope = make_scope(["/a"], [NAMES[0]], "2026-05-01", "2026-06-01")
    asked = Query(time_from=MAY - 5, time_to=MAY + 5, model="m", route="/b", before=7)
    assert scope.narrow(asked) == asked._replace(
        routes=("/a",), ids=(ONE,), time_from=MAY, time_to=MAY + 5
    )
    assert scope.narrow(Query()).time_to == JUNE
    assert EVERYTHING.narrow(asked) == asked


# --- expiry ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d", 1_800_000_000 + 30 * 86_400),
        ("12h", 1_800_000_000 + 12 * 3_600),
        ("2099-01-01", parse_moment("2099-01-01") // 1_000_000),
        ("2099-01-01T09:30:00Z", parse_moment("2099-01-01T09:30:00Z") // 1_000_000),
        ("never", None),
    ],
)
def test_until_when_a_token_is_good(text: str, seconds: int | None) -> None:
    assert parse_expiry(text, NOW) == seconds


@pytest.mark.parametrize(
    "text", ["", "0d", "30", "30 d", "1w", "Never", "-1d", "99999d"]
)
def test_another_expiry_is_refused(text: str) -> None:
    with pytest.raises(MalformedError, match="30d, 12h, 2027-01-31 or never, got"):
        parse_expiry(text, NOW)


def test_an_expiry_is_to_come() -> None:
    with pytest.raises(MalformedError, match="expected a time to come"):
        parse_expiry("2026-01-01", NOW)


def test_ids_are_those_of_decisions() -> None:
    with pytest.raises(MalformedError, match="UUIDv7"):
        make_scope(decisions=["01995e6c"])
    assert make_scope(decisions=[NAMES[0]] * 3).decisions == (parse_id(NAMES[0]),)
