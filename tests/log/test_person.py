"""Who is looked for is found by what their key seals, and the look is an entry."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditlog.core.errors import NotFoundError
from auditlog.core.record import DECISION, format_id, parse_id
from auditlog.log import person as person_module
from auditlog.log.access import ACCESS, Recipient
from auditlog.log.amending import append_amendment
from auditlog.log.amendment import AMENDMENT, amendment
from auditlog.log.person import (
    NOTHING_HELD,
    Person,
    about,
    find_person,
    held_on,
    search_person,
)
from auditlog.log.reader import Reader
from auditlog.storage import IndexRow, Query
from auditlog.storage.acceptance import AcceptanceFile
from tests.log.builders import now_us
from tests.people import ADA, BOB, People

COURT = Recipient("Court of Example", "case 7")


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    made = People(tmp_path / "audit")
    yield made
    made.log.close()


def search(people: People, subject: str, **query: object) -> list[IndexRow]:
    return search_person(
        people.log,
        "person",
        subject,
        Query(type=DECISION, **query),  # type: ignore[arg-type]
        recipient=COURT,
        by={"login": "dpo"},
        channel="cli",
        now=now_us() / 1e6,
    )


def ids(rows: list[IndexRow]) -> list[str]:
    return [format_id(row.id) for row in rows]


def searches(people: People) -> list[IndexRow]:
    return people.log.store.find(Query(type=ACCESS))


def test_decisions_about_a_person_are_found_newest_first_and_nobody_elses(
    people: People,
) -> None:
    first = people.record(ADA)
    people.record(BOB)
    last = people.record(ADA)
    assert ids(search(people, ADA)) == [last, first]


def test_the_other_conditions_of_a_look_up_still_hold(people: People) -> None:
    people.record(ADA)
    batch = people.record(ADA, route="/batch")
    more = people.record(ADA, route="/batch", outcome="error")
    assert ids(search(people, ADA, route="/batch", outcome="completed")) == [batch]
    assert ids(search(people, ADA, limit=1)) == [more]
    (row,) = search(people, ADA, limit=1)
    assert ids(search(people, ADA, before=row.index, limit=1)) == [batch]


def test_an_identifier_is_found_in_whatever_unicode_form_it_is_typed(
    people: People,
) -> None:
    id_ = people.record("Zoë")
    assert ids(search(people, "Zoe\u0308")) == [id_]


def test_the_same_identifier_of_another_kind_is_somebody_else(people: People) -> None:
    people.record(ADA, kind="customer")
    with pytest.raises(NotFoundError):
        find_person(people.log, "person", ADA)


def test_a_search_is_an_entry_that_names_no_decision_and_goes_with_the_person(
    people: People,
) -> None:
    people.record(ADA)
    search(people, ADA)
    (row,) = searches(people)
    assert row.index is not None
    person = find_person(people.log, "person", ADA)
    stored = people.log.store.sealed(row.index)
    assert stored is not None
    assert stored[0] == person.key_id
    entry = json.loads(people.log.store.read(row.index, row.index + 1)[0])
    assert "subject" not in entry
    assert set(entry["data"]) == {
        *("channel", "commitment", "request", "response", "what")
    }
    assert (entry["data"]["channel"], entry["data"]["what"]) == ("cli", "search")
    content = Reader(people.log).content(entry["id"])
    assert json.loads(content.context["recipient"]) == {
        "name": "Court of Example",
        "purpose": "case 7",
    }
    assert json.loads(content.context["user"]) == {"login": "dpo"}


@pytest.mark.parametrize("prepared", [False, True], ids=["an empty log", "others"])
def test_where_nothing_is_held_nothing_is_said_or_left(
    people: People, prepared: bool
) -> None:
    if prepared:
        people.record(BOB)
    size = people.log.store.size()
    with pytest.raises(NotFoundError) as told:
        search(people, ADA)
    assert str(told.value) == NOTHING_HELD
    assert people.log.store.size() == size
    assert people.log.keys.subject("person", ADA) is None


def test_what_was_accepted_and_not_stored_yet_is_held_too(people: People) -> None:
    stored, coming = people.item(ADA), people.item(ADA)
    people.log.store.append([stored])
    file = AcceptanceFile.create(people.log.paths.journals, bytes(16))
    for item in (stored, people.item(BOB), coming):
        assert file.append([item])
    held = held_on(people.log, find_person(people.log, "person", ADA))
    file.close(clean=True)
    assert held.indices == (0,)
    assert [row.id for row in held.on_their_way] == [coming.row.id]


def test_who_was_erased_meanwhile_is_not_there(people: People) -> None:
    people.record(ADA)
    gone = find_person(people.log, "person", ADA)
    with people.log.store._database.writing() as connection:
        connection.execute("DELETE FROM keys WHERE key_id = ?", (gone.key_id,))
    with pytest.raises(NotFoundError, match=NOTHING_HELD):
        held_on(people.log, gone)


def test_later_entries_are_found_by_page_and_in_order(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(person_module, "_PAGE", 4)
    id_ = people.record(ADA)
    other = people.record(ADA)
    made = [
        append_amendment(people.log, amendment(id_, "outcome", label=n), now_us())
        for n in range(11)
    ]
    append_amendment(people.log, amendment(other, "outcome", label=1), now_us())
    row = people.log.store.by_id(parse_id(id_))
    assert row is not None
    assert [one.id for one in about(people.log, row, AMENDMENT)] == made


def test_a_person_is_not_printed() -> None:
    assert repr(Person("person", ADA, bytes(16))) == "Person(person)"
