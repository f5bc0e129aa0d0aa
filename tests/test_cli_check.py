"""`auditlog check` as a process: what it says of numbers, and its status."""

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from auditlog.log.completeness import GUARANTEE
from auditlog.log.directory import open_log
from auditlog.log.emitter import Emitter
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.storage.journal import Journal
from tests.command import auditlog
from tests.filled import ORIGIN, fill_log
from tests.log.builders import now_us

if TYPE_CHECKING:
    from auditlog.core.record import Entry

MINUTE = 60 * 1_000_000


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log") / "audit"
    fill_log(directory)
    return directory


@pytest.fixture
def own(log: Path, tmp_path: Path) -> Path:
    """A copy of the log that takes the place of the original."""
    shutil.copytree(log, tmp_path / "audit")
    (tmp_path / "audit" / "place").unlink()
    return tmp_path / "audit"


def _say(directory: Path, *minutes: int, stop: int | None = 0) -> None:
    """Have an emitter say a word at each of these minutes, and stop."""
    journal = Journal.create(directory / "journal", bytes(16))
    emitter = Emitter(journal, bytes(16))
    began = now_us() - 100 * MINUTE
    words: list[Entry] = [emitter.start_entry(ORIGIN, began)]
    words += [emitter.beat_entry(ORIGIN, began + at * MINUTE) for at in minutes]
    if stop is not None:
        for _ in range(stop):
            emitter.issue(new_id(began), began)
        last = began + max((0, *minutes)) * MINUTE
        words.append(emitter.stop_entry(ORIGIN, last))
    journal.close_clean()
    with open_log(directory) as opened:
        opened.store.append([plain_item(word) for word in words])


def test_it_accounts_for_the_numbers_in_the_words_of_the_format(log: Path) -> None:
    done = auditlog("check", "--dir", log)
    assert (done.status, done.err) == (0, "")
    assert f"numbers of 1 emitter: 6 there; {GUARANTEE}\n" in done.out


def test_emitters_are_listed_where_asked_for(log: Path) -> None:
    done = auditlog("check", "--dir", log, "--emitters")
    (row,) = [line.split("\t") for line in done.out.splitlines() if "\t" in line]
    assert row[1] == "stopped"
    assert row[4:] == ["6", "0", "0", "0", "0", ""]


def test_the_document_has_every_emitter_and_the_guarantee(log: Path) -> None:
    document = auditlog("check", "--dir", log, "--json").document()
    (emitter,) = document["emitters"]
    assert (emitter["state"], emitter["logged"], emitter["missing"]) == (
        "stopped",
        6,
        [],
    )
    assert emitter["first"].endswith("Z")
    assert document["guarantee"] == GUARANTEE


def test_a_hole_ends_with_10_and_promises_nothing(own: Path) -> None:
    _say(own, 1, stop=2)
    done = auditlog("check", "--dir", own)
    assert done.status == 10
    assert "numbers 0 to 1 are neither in the log nor named by a gap" in done.out
    assert "numbers of 2 emitters: 6 there, 2 missing\n" in done.out
    assert GUARANTEE not in done.out


def test_silence_is_told_and_fails_only_who_demands_that_there_be_none(
    own: Path,
) -> None:
    _say(own, 1, 5, 6)
    told = auditlog("check", "--dir", own)
    assert told.status == 0
    assert f"not checked: emitter {'00' * 16}: it was silent for 240 s\n" in told.out
    allowed = auditlog("check", "--dir", own, "--max-gap", 240)
    assert (allowed.status, "silent" in allowed.out) == (0, False)
    demanded = auditlog("check", "--dir", own, "--max-gap", 239)
    assert demanded.status == 1
    assert "warning: emitters that were silent for more than 239 s: 1" in demanded.err
    machine = auditlog("check", "--dir", own, "--max-gap", 239, "--json")
    assert (machine.status, machine.document()["ok"]) == (1, False)


def test_who_vanished_without_a_word_is_told(own: Path) -> None:
    _say(own, 1, stop=None)
    done = auditlog("check", "--dir", own)
    assert done.status == 0
    assert "it ended without a stop, and no gap says so" in done.out
    assert auditlog("check", "--dir", own, "--max-gap", 60).status == 1


def test_a_gap_that_is_no_number_is_refused(log: Path) -> None:
    done = auditlog("check", "--dir", log, "--max-gap", "soon")
    assert done.status == 2
    assert "expected a whole number from 0 to 1000000000, got 'soon'" in done.err
