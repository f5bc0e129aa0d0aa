"""What entries say about anchors and emitters, and when a monitor minds."""

import base64
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.record import Entry, canonical_json, format_entry, parse_json
from auditlog.monitor.account import Account, Limits
from auditlog.monitor.findings import Finding, severity
from tests.monitor.tiled import NOW, ORIGIN, Site, TiledLog, look, served

BEGIN = int(NOW) * 1_000_000 - 3_600_000_000
"""An hour before the monitor looks."""
MINDS = Limits(anchor_lag=600, silence=120)
SILENCE = Limits(silence=120)
TAG = base64.urlsafe_b64encode(bytes(16)).decode()
NAME = bytes(15) + b"\1"


def entry(
    type_: str, seconds: float, emitter: bytes | None = NAME, **data: Any
) -> bytes:
    """An entry so many seconds after the beginning."""
    time = BEGIN + int(seconds * 1_000_000)
    named = {} if emitter is None else {"emitter": base64.b64encode(emitter).decode()}
    id_ = (time // 1000).to_bytes(6) + b"\x70\x00\x80" + bytes(7)
    subject = TAG if type_ == "decision" else None
    kind = f"auditlog.{type_}.v1"
    return format_entry(Entry(id_, kind, ORIGIN, time, {**named, **data}, subject))


def word(state: str, seconds: float, emitter: bytes = NAME, **data: Any) -> bytes:
    return entry("emitter", seconds, emitter, state=state, **data)


def decision(number: int, seconds: float, emitter: bytes = NAME) -> bytes:
    return entry("decision", seconds, emitter, sequence=number, outcome="completed")


def gap(first: int, last: int | None, seconds: float) -> bytes:
    named = {"from": first, "to": last, "reason": "for a reason"}
    return entry("gap", seconds, NAME, **named)


def anchor(size: int, seconds: float, state: str = "final", name: str = "tsa") -> bytes:
    more = {"anchor": name, "attempt": 1, "kind": "rfc3161", "digest": "AA=="}
    return entry("anchor", seconds, None, state=state, size=size, **more)


def account_of(*entries: bytes, start: int = 0) -> Account:
    account = Account(ORIGIN, start)
    account.take_all(start, entries)
    return account


def found(*entries: bytes, start: int = 0, limits: Limits = SILENCE) -> list[Finding]:
    """The findings, which a monitor that stopped and went on has too."""
    account = account_of(*entries, start=start)
    first = [*account.findings(NOW, limits)]
    assert [*Account.load(account.dump()).findings(NOW, limits)] == first
    return first


def kinds(findings: list[Finding]) -> list[str]:
    return [one.kind for one in findings]


class TestSilence:
    def test_a_process_at_work_that_says_nothing(self) -> None:
        (one,) = found(word("start", 0), word("beat", 60, next=0, open=[]))
        assert one.kind == "silence"
        assert "has said nothing for 3540 s; expected a word every 120 s" in one.text
        assert NAME.hex() in one.text

    @pytest.mark.parametrize(
        "last", [word("beat", 3500, next=0, open=[]), word("stop", 60, next=0)]
    )
    def test_one_that_spoke_or_stopped(self, last: bytes) -> None:
        assert found(word("start", 0), last) == []

    def test_nobody_minds(self) -> None:
        assert found(word("start", 0), limits=Limits()) == []

    def test_how_long(self) -> None:
        account = account_of(word("start", 0), word("start", 3590, b"o" * 16))
        assert account.silent(NOW) == {NAME.hex(): 3600.0, (b"o" * 16).hex(): 10.0}


class TestNumbers:
    def test_an_end_without_a_stop(self) -> None:
        (one,) = found(word("start", 0), decision(0, 1), gap(1, None, 100))
        assert one.kind == "unclean"
        assert "whether it issued numbers from 1 on is unknown" in one.text

    def test_an_end_without_a_stop_counts_once(self) -> None:
        one = Finding("unclean", NAME.hex(), "died")
        assert severity([one], ()) == 12
        assert severity([one], {one.key}) == 0
        silent = Finding("silence", NAME.hex(), "silent")
        assert severity([silent], {silent.key}) == 12

    def test_a_number_that_a_beat_says_is_there(self) -> None:
        beat = word("beat", 3500, next=3, open=[])
        findings = found(word("start", 0), decision(0, 1), decision(2, 2), beat)
        assert set(kinds(findings)) == {"numbers"}
        assert "numbers 1 to 1 are neither in the log nor named" in findings[0].text
        assert severity(findings, {one.key for one in findings}) == 10

    def test_a_number_that_is_open_or_named_is_none(self) -> None:
        beat = word("beat", 3500, next=4, open=[[1, 1]])
        decisions = decision(0, 1), decision(2, 2)
        assert found(word("start", 0), *decisions, gap(3, 3, 3), beat) == []

    def test_numbers_that_a_stop_left_open(self) -> None:
        stop = word("stop", 60, next=2)
        (one,) = found(word("start", 0), decision(0, 1), stop)
        assert one.kind == "open"
        assert "has stopped 3540 s ago, and its numbers from 1 on" in one.text

    def test_an_emitter_of_which_the_beginning_was_not_read(self) -> None:
        beat = word("beat", 3500, next=9, open=[])
        assert found(decision(8, 1), beat, start=256) == []
        other = word("start", 3500, b"o" * 16)
        lie = word("beat", 3510, b"o" * 16, next=1, open=[])
        assert "numbers" in kinds(found(decision(8, 1), other, lie, start=256))


class TestAnchors:
    def test_nothing_was_ever_anchored(self) -> None:
        (one,) = found(decision(0, 0), word("stop", 0, next=1), limits=MINDS)
        assert one.kind == "anchors"
        assert "is 3600 s old; expected at most 600 s (0 of 2 entries" in one.text

    def test_what_is_not_anchored_is_young(self) -> None:
        stop = word("stop", 1, next=2)
        entries = decision(0, 0), anchor(1, 10), stop, decision(1, 3500)
        assert found(*entries, limits=MINDS) == []

    def test_only_what_is_final_counts(self) -> None:
        stop = word("stop", 1, next=1)
        pending = anchor(1, 10, "pending"), anchor(1, 20, "failed")
        assert kinds(found(decision(0, 0), *pending, stop, limits=MINDS)) == ["anchors"]

    def test_an_idle_log_is_not_behind(self) -> None:
        """Its own anchor entries, and beats, are nothing worth anchoring."""
        entries = decision(0, 0), anchor(1, 10), word("stop", 20, next=1)
        assert found(*entries, anchor(2, 30, "failed"), limits=MINDS) == []

    def test_the_best_of_several_counts(self) -> None:
        account = account_of(
            *(decision(number, number) for number in range(5)),
            anchor(2, 10, name="a"),
            anchor(4, 11, name="b"),
            anchor(3, 12, name="c"),
        )
        assert account.anchored() == 4
        assert account.lag(NOW) == 3596.0
        assert [one["size"] for one in account.anchors().values()] == [2, 4, 3]

    @pytest.mark.parametrize("size", [-1, 2, "1", None])
    def test_a_size_that_there_was_not_yet(self, size: Any) -> None:
        account = account_of(decision(0, 0), anchor(size, 1))
        assert (account.anchored(), account.foreign) == (0, 1)

    def test_a_long_time_without_anchors_is_remembered_from_its_beginning(self) -> None:
        account = Account(ORIGIN)
        for index in range(9000):
            account._mark(index, BEGIN + index)
        assert len(account.dump()["marks"]) <= 4096
        assert account.lag(NOW) == 3600.0


STORY = [
    word("start", 0),
    decision(0, 1),
    decision(3, 2),
    anchor(2, 3),
    decision(3, 4),
    word("beat", 60, next=5, open=[[4, 4]]),
    word("start", 61, b"o" * 16),
    gap(1, 1, 62),
    b"not ours",
    word("beat", 300, next=3, open=[]),
    word("stop", 301, b"o" * 16, next=2),
    gap(4, None, 302),
    anchor(9, 303, "pending"),
]


@pytest.mark.parametrize("cut", range(len(STORY) + 1))
def test_wherever_it_is_put_down_it_goes_on_the_same(cut: int) -> None:
    first = account_of(*STORY[:cut])
    state = parse_json(canonical_json(first.dump()), limit=1 << 20)
    second = Account.load(state)
    second.take_all(cut, STORY[cut:])
    whole = account_of(*STORY)
    assert second.dump() == whole.dump()
    findings = [*second.findings(NOW, MINDS)]
    assert findings == [*whole.findings(NOW, MINDS)]
    assert set(kinds(findings)) == {"numbers", "unclean", "open", "anchors"}


class TestBounds:
    def test_entries_of_others_are_counted_and_are_no_fault(self) -> None:
        other = decision(0, 0).replace(ORIGIN.encode(), b"other.example/l")
        account = account_of(b"", b"{}", other, entry("gap", 1, b"short"))
        assert account.foreign == 4
        assert [*account.findings(NOW, SILENCE)] == []

    def test_too_many_emitters_are_given_up_and_that_is_said(self) -> None:
        account = Account(ORIGIN, max_weight=500)
        for number in range(1025):
            account.take(number, word("stop", 0, number.to_bytes(16), next=0))
        assert account.overflow
        assert kinds([*account.findings(NOW, SILENCE)]) == ["unchecked"]
        assert len(str(account.dump())) < 10_000

    def test_a_beat_that_names_more_than_it_should_is_weighed_at_once(self) -> None:
        account = Account(ORIGIN, max_weight=500)
        account.take(0, decision(9000, 0))
        spans = [[4 * number, 4 * number] for number in range(2000)]
        account.take(1, word("beat", 0, next=9001, open=spans))
        assert account.overflow

    def test_torn_numbers_are_given_up(self) -> None:
        account = Account(ORIGIN, max_weight=500)
        for number in range(1025):
            account.take(number, decision(2 * number, 0))
        assert account.overflow

    def test_many_anchors(self) -> None:
        names = [anchor(0, 1, name=f"a{number}") for number in range(70)]
        account = account_of(*names)
        assert (len(account.anchors()), account.foreign) == (64, 6)


def test_a_monitor_reads_them_and_remembers(tmp_path: Path) -> None:
    log = TiledLog(
        [word("start", 0), decision(0, 1), word("beat", 60, next=1, open=[])]
    )
    site = Site()
    site.show(log, 2)
    with served(site) as url:
        look(tmp_path / "m", url, policy=log.policy())
        site.show(log, 3)
        done = look(tmp_path / "m", url, policy=log.policy(), limits=MINDS)
        assert (done.status, done.foreign) == (12, 0)
        assert [one.kind for one in done.findings] == ["silence", "anchors"]
        assert (done.anchor_lag, done.silence) == (3599.0, 3540.0)


def test_many_findings_are_cut_and_the_newest_stay(tmp_path: Path) -> None:
    names = [number.to_bytes(16) for number in range(300)]
    log = TiledLog([word("start", number, name) for number, name in enumerate(names)])
    site = Site()
    site.show(log, 300)
    with served(site) as url:
        done = look(tmp_path / "m", url, policy=log.policy(), limits=SILENCE)
    assert [one.subject for one in done.findings] == [n.hex() for n in names[100:]]


def test_limits_without_entries_are_not_silently_dropped(tmp_path: Path) -> None:
    log = TiledLog([word("start", 0)])
    site = Site()
    site.show(log, 1)
    site.drop("tile/entries")
    with served(site) as url:
        done = look(tmp_path / "m", url, policy=log.policy(), limits=MINDS)
    assert (done.status, done.size) == (1, 1)
    assert "anchors and emitters cannot be watched" in done.findings[0].text
