"""Numbers without holes: issued, journalled, settled, and admitted after a death."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import StorageError
from auditlog.core.record import format_entry
from auditlog.log.emitter import Emitter, recovery_entries, spans
from auditlog.log.identity import new_id
from auditlog.storage.journal import AbandonedJournal, Journal, abandoned
from tests.log.builders import ORIGIN, now_us

ID = bytes(range(16))


@pytest.fixture
def emitter(tmp_path: Path) -> Iterator[Emitter]:
    emitter = Emitter(Journal.create(tmp_path, ID), ID)
    yield emitter
    emitter.close()


def _issue(emitter: Emitter, count: int) -> list[int]:
    numbers = []
    for _ in range(count):
        id_, time = new_id(now_us()), now_us()
        numbers.append(emitter.issue(id_, time))
        emitter.put_on_record(numbers[-1], id_, time)
    return numbers


@given(st.sets(st.integers(min_value=0, max_value=60)))
def test_spans_name_each_number_once(numbers: set[int]) -> None:
    found = spans(sorted(numbers))
    assert sorted(n for a, b in found for n in range(a, b + 1)) == sorted(numbers)
    assert all(later[0] > earlier[1] + 1 for earlier, later in zip(found, found[1:]))  # noqa: B905, RUF007


def test_numbers_have_no_holes(emitter: Emitter) -> None:
    assert _issue(emitter, 5) == [0, 1, 2, 3, 4]
    emitter.settle([0, 2, 3])
    assert emitter.state() == (5, [1, 4])


def test_a_beat_names_what_is_open(emitter: Emitter) -> None:
    _issue(emitter, 6)
    emitter.settle([0, 3])
    data = emitter.beat_entry(ORIGIN, now_us()).data
    assert (data["state"], data["next"]) == ("beat", 6)
    assert data["open"] == [[1, 2], [4, 5]]


def test_a_beat_fits_into_an_entry_however_many_streams_are_open(
    emitter: Emitter,
) -> None:
    _issue(emitter, 12_000)
    emitter.settle(range(0, 12_000, 2))
    entry = emitter.beat_entry(ORIGIN, now_us())
    format_entry(entry)
    covered = {n for first, last in entry.data["open"] for n in range(first, last + 1)}
    assert covered >= set(range(1, 12_000, 2)), "it must not claim what is open"
    assert entry.data["open"][:2] == [[1, 1], [3, 3]]


def test_start_and_stop_frame_the_numbers(emitter: Emitter) -> None:
    start = emitter.start_entry(ORIGIN, now_us())
    _issue(emitter, 2)
    stop = emitter.stop_entry(ORIGIN, now_us())
    assert (start.data["state"], stop.data["state"], stop.data["next"]) == (
        *("start", "stop"),
        2,
    )
    assert start.type == stop.type == "auditlog.emitter.v1"
    format_entry(start)
    format_entry(stop)


def test_after_the_end_there_are_no_numbers(emitter: Emitter) -> None:
    """Or one could be issued between the word of the stop and the journal's end."""
    _issue(emitter, 2)
    emitter.end()
    with pytest.raises(StorageError, match="has been stopped in this process"):
        _issue(emitter, 1)
    assert emitter.stop_entry(ORIGIN, now_us()).data["next"] == 2


def test_a_clean_end_leaves_no_journal(tmp_path: Path) -> None:
    emitter = Emitter(Journal.create(tmp_path, ID), ID)
    _issue(emitter, 3)
    emitter.settle(range(3))
    emitter.close()
    assert abandoned(tmp_path) == []


def test_an_end_with_open_numbers_leaves_them_to_recovery(tmp_path: Path) -> None:
    emitter = Emitter(Journal.create(tmp_path, ID), ID)
    _issue(emitter, 3)
    emitter.settle([0, 1])
    emitter.close()
    (journal,) = abandoned(tmp_path)
    with journal:
        assert [record.sequence for record in journal.records] == [0, 1, 2]


def test_compaction_keeps_the_open_numbers(tmp_path: Path) -> None:
    emitter = Emitter(Journal.create(tmp_path, ID), ID)
    _issue(emitter, 40_000)
    emitter.settle(range(39_990))
    emitter.compact()
    _issue(emitter, 1)
    emitter.close()
    (journal,) = abandoned(tmp_path)
    with journal:
        numbers = [record.sequence for record in journal.records]
        assert numbers == list(range(39_990, 40_001))
        assert journal.base == 40_000


def _recover(directory: Path, logged: list[int]) -> list[dict[str, object]]:
    (journal,) = abandoned(directory)
    with journal:
        entries = list(recovery_entries(journal, logged, ORIGIN, now_us()))
        for entry in entries:
            format_entry(entry)
        return [{"type": entry.type, **entry.data} for entry in entries]


def test_what_was_open_is_admitted_as_interrupted_under_its_own_id(
    tmp_path: Path,
) -> None:
    emitter = Emitter(Journal.create(tmp_path, ID), ID)
    _issue(emitter, 4)
    emitter.close()
    entries = _recover(tmp_path, logged=[0, 2])
    assert [entry.get("sequence") for entry in entries] == [1, 3, None]
    assert {entry.get("outcome") for entry in entries[:2]} == {"interrupted"}
    assert (entries[2]["from"], entries[2]["to"]) == (4, None)
    assert entries[2]["reason"] == "unclean-stop"


def test_numbers_that_were_never_journalled_are_named_by_a_gap(tmp_path: Path) -> None:
    emitter = Emitter(Journal.create(tmp_path, ID), ID)
    _issue(emitter, 1)
    for _ in range(3):
        emitter.issue(new_id(now_us()), now_us())
    _issue(emitter, 1)
    emitter.close()
    entries = _recover(tmp_path, logged=[0, 2])
    found = [(e.get("sequence"), e.get("from"), e.get("to")) for e in entries]
    assert found == [(4, None, None), (None, 1, 1), (None, 3, 3), (None, 5, None)]


def test_recovery_after_half_a_recovery_admits_only_the_rest(tmp_path: Path) -> None:
    emitter = Emitter(Journal.create(tmp_path, ID), ID)
    _issue(emitter, 3)
    emitter.close()
    assert len(_recover(tmp_path, logged=[0, 1, 2])) == 1


def test_a_journal_is_left_while_its_owner_lives(
    emitter: Emitter, tmp_path: Path
) -> None:
    _issue(emitter, 1)
    found: list[AbandonedJournal] = abandoned(tmp_path)
    assert found == []
