"""Reading a log: what is known, how far it has come, and what proves it."""

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from auditlog.capture.body import Body
from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.errors import (
    MalformedError,
    NotFoundError,
    PendingError,
    VerificationError,
)
from auditlog.core.merkle import leaf_hash, verify_consistency, verify_inclusion
from auditlog.core.note import split_unverified_note
from auditlog.core.pieces import TEXT, frame, messages
from auditlog.core.receipt import Disclosure, format_receipt, parse_receipt
from auditlog.core.record import format_id, parse_entry, parse_id
from auditlog.core.tiles import parse_bundle
from auditlog.core.verify import verify_receipt
from auditlog.log import reader as reader_module
from auditlog.log.check import check_log
from auditlog.log.directory import LogDirectory, create_log, open_log
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.log.reader import Reader
from auditlog.log.runtime import Runtime
from auditlog.storage import ERASED, Query
from auditlog.storage.journal import Journal
from auditlog.storage.spill import SpillDirectory
from tests.filled import fill_log
from tests.harness import check_whole_log, read_log
from tests.log.builders import config_of, exchange, gap_items, now_us
from tests.log.redactions import WordRedaction


@pytest.fixture
def log(filled_once: tuple[Path, list[str]]) -> Iterator[LogDirectory]:
    with open_log(filled_once[0], read_only=True) as log:
        yield log


@pytest.fixture
def reader(log: LogDirectory) -> Reader:
    return Reader(log)


def _size_and_root(note: bytes) -> tuple[int, bytes]:
    checkpoint = parse_checkpoint(split_unverified_note(note)[0])
    return checkpoint.size, checkpoint.root


def test_the_filled_log_is_whole(filled_once: tuple[Path, list[str]]) -> None:
    log = check_whole_log(filled_once[0])
    assert len(log.decisions) == 300
    assert len(log.checkpoints) >= 2


def test_a_decision_is_found_by_its_id(reader: Reader, ids: list[str]) -> None:
    view = reader.decision(ids[7])
    assert view.row is not None
    assert (view.level, view.row.route, view.row.model) == (
        *("included", "/score"),
        "credit",
    )
    assert view.entry == reader.entry_at(view.row.index or 0)


def test_an_unknown_id_is_not_found(reader: Reader) -> None:
    with pytest.raises(NotFoundError, match=r"no decision .* in log log.example/tests"):
        reader.decision(format_id(new_id(now_us())))


@pytest.mark.parametrize("text", ["", "x", "018BCFE5-6800-77E7-A182-5DC0D28C96CF"])
def test_what_is_no_id_is_refused(reader: Reader, text: str) -> None:
    with pytest.raises(MalformedError, match="expected a UUIDv7"):
        reader.decision(text)


def test_a_decision_that_is_only_journalled_is_opened(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit")) as log:
        journal = Journal.create(log.paths.journals, bytes(16))
        id_ = new_id(now_us())
        journal.opened(0, id_, now_us())
        assert Reader(log).decision(format_id(id_)).level == "opened"
        with pytest.raises(PendingError, match="is opened, but not in the log yet"):
            Reader(log).receipt(format_id(id_))
        journal.close_clean()


def test_what_comes_into_the_store_during_a_look_up_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its acceptance file may be used again, before we come to read it."""
    with create_log(config_of(tmp_path / "audit")) as log:
        (item,) = gap_items(1)

        def stored_meanwhile(*_: object) -> None:
            log.store.append([item])

        monkeypatch.setattr(reader_module, "find_accepted", stored_meanwhile)
        view = Reader(log).decision(format_id(item.row.id))
    assert (view.level, view.entry) == ("accepted", item.entry)


def test_an_accepted_entry_has_no_receipt_yet(tmp_path: Path) -> None:
    with create_log(config_of(tmp_path / "audit")) as log:
        (item,) = gap_items(1)
        log.store.append([item])
        id_ = format_id(item.row.id)
        assert Reader(log).decision(id_).level == "accepted"
        with pytest.raises(PendingError, match="accepted, but under no checkpoint yet"):
            Reader(log).receipt(id_)
        with pytest.raises(PendingError, match="has no checkpoint yet"):
            Reader(log).checkpoint()


def test_every_decision_has_a_receipt_that_verifies(
    log: LogDirectory, reader: Reader, ids: list[str]
) -> None:
    policy = log.paths.policy.read_text()
    for id_ in ids[::13]:
        verdict = verify_receipt(reader.receipt(id_), policy)
        assert verdict.id == id_
        assert verdict.disclosed == ()


def test_a_receipt_opens_what_was_asked_for_and_no_more(
    log: LogDirectory, reader: Reader, ids: list[str]
) -> None:
    receipt = reader.receipt(ids[41], disclose=["response/decision", "request/age"])
    verdict = verify_receipt(receipt, log.paths.policy.read_text())
    assert verdict.disclosed == (
        ("request/age", b"41"),
        ("response/decision", b'"approve"'),
    )
    # In base64, as a receipt would show it; shorter ones come up by chance.
    assert b64encode(b'"Ada"') not in receipt


def test_a_full_opening_verifies(
    log: LogDirectory, reader: Reader, ids: list[str]
) -> None:
    receipt = reader.receipt(ids[3], open_all=True)
    verdict = verify_receipt(receipt, log.paths.policy.read_text())
    assert dict(verdict.disclosed)["request"] == b'{"age": 3, "name": "Ada"}'


LARGE = bytes(range(251)) * 4500
"""18 chunks, of which the first 16 are kept by default."""


@pytest.mark.parametrize("response", [b'{"ok":true}', LARGE])
def test_a_full_opening_gives_what_is_kept_of_a_large_body(
    tmp_path: Path, response: bytes
) -> None:
    (id_,) = fill_log(tmp_path / "audit", 1, request=LARGE, response=response)
    with open_log(tmp_path / "audit") as log:
        receipt = Reader(log).receipt(id_, open_all=True)
        verdict = verify_receipt(receipt, log.policy())
    disclosed = dict(verdict.disclosed)
    sides = ("request",) if response is not LARGE else ("request", "response")
    for side in sides:
        assert side not in disclosed
        cut = [path for path in disclosed if path.startswith(f"{side}#")]
        assert cut == [f"{side}#{number}" for number in range(16)]
        assert b"".join(disclosed[path] for path in cut) == LARGE[: 1 << 20]
    assert disclosed.get("response/ok", b"true") == b"true"


def test_a_full_opening_gives_each_byte_of_a_large_body_once(tmp_path: Path) -> None:
    config = config_of(tmp_path / "audit", max_stored_bytes=4 << 20)
    spills = SpillDirectory(config.dir, 1 << 30)
    runtime = Runtime(config)
    one = exchange(0)
    one.request = Body(one.secret, 0, 4 << 20, spills=spills)
    one.request.feed(LARGE)
    one.request.state = "complete"
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)
    runtime.stop()
    with open_log(config.dir) as log:
        receipt = Reader(log).receipt(format_id(one.id), open_all=True)
        verdict = verify_receipt(receipt, log.policy())
    disclosed = dict(verdict.disclosed)
    assert disclosed["request"] == LARGE
    assert not [path for path in disclosed if "#" in path]
    assert verdict.checks[-1].name == "full opening"


def test_a_chunk_that_is_not_kept_cannot_be_opened(tmp_path: Path) -> None:
    (id_,) = fill_log(tmp_path / "audit", 1, request=LARGE)
    with open_log(tmp_path / "audit") as log:
        reader = Reader(log)
        for path in ("request#16", "request#17", "request"):
            with pytest.raises(
                NotFoundError, match=f"first bytes of '{path}' were kept"
            ):
                reader.receipt(id_, disclose=[path])
        with pytest.raises(NotFoundError, match="nothing was captured at 'request#18'"):
            reader.receipt(id_, disclose=["request#18"])
        report = check_log(log)
    assert (report.problems, report.unchecked) == ((), ())


EVENTS = [b"data: %d\r\n\r\n" % number for number in range(2000)]
MESSAGES = [frame(number, TEXT, b"%d" % number) for number in range(2000)]


@pytest.fixture(params=[2000, 1 << 20], ids=["capped", "whole"])
def streamed(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[Reader, str, str, bool]]:
    """A log with an event stream as request and messages as response.

    Its reader, its policy, the id of the decision, and whether all of it is kept.
    """
    config = config_of(tmp_path / "audit")
    runtime, one = Runtime(config), exchange(0)
    known = {"limit": request.param, "spills": SpillDirectory(config.dir, 1 << 30)}
    one.request = Body(one.secret, 0, media_type="text/event-stream", **known)
    one.response = Body(one.secret, 1, before=one.request, framed=True, **known)
    for event, message in zip(EVENTS, MESSAGES, strict=True):
        one.request.feed(event)
        one.response.feed(message)
    one.request.state = one.response.state = "complete"
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)
    runtime.stop()
    with open_log(config.dir) as log:
        whole = request.param > 2000
        yield Reader(log), log.paths.policy.read_text(), format_id(one.id), whole


def test_one_event_and_one_message_can_be_shown(
    streamed: tuple[Reader, str, str, bool],
) -> None:
    reader, policy, id_, _ = streamed
    receipt = reader.receipt(id_, disclose=["response#3", "request#7"])
    verdict = verify_receipt(receipt, policy)
    assert verdict.disclosed == (("request#7", EVENTS[7]), ("response#3", b"3"))
    # With the next ones in their places, or under their names, it is a lie.
    index, path, salt, value = parse_receipt(receipt).disclosures[1]
    lies = [
        (index, path, salt, b"4"),
        (index + 1, path, salt, value),
        (index, "response#4", salt, value),
        (index, "request#3", salt, value),
    ]
    for lie in lies:
        forged = replace(parse_receipt(receipt), disclosures=(Disclosure(*lie),))
        with pytest.raises(VerificationError, match="expected"):
            verify_receipt(format_receipt(forged), policy)


def test_streams_and_sessions_are_opened_as_far_as_they_are_kept(
    streamed: tuple[Reader, str, str, bool],
) -> None:
    reader, policy, id_, whole = streamed
    verdict = verify_receipt(reader.receipt(id_, open_all=True), policy)
    disclosed = dict(verdict.disclosed)
    if whole:
        assert disclosed["request"] == b"".join(EVENTS)
        assert disclosed["response"] == b"".join(MESSAGES)
        assert verdict.checks[-1].name == "full opening"
        receipt = reader.receipt(id_, disclose=["response", "response#1999"])
        details = [check.detail for check in verify_receipt(receipt, policy).checks]
        assert "1 of 2000, as they stand in the response" in details
    else:
        kept = [path for path in disclosed if path.startswith("response#")]
        first = messages(b"".join(MESSAGES)[:2000], cut=True)
        assert kept == [f"response#{number}" for number in range(len(first))]
        for path in ("response#1999", "response"):
            with pytest.raises(NotFoundError, match=f"first bytes of '{path}' were"):
                reader.receipt(id_, disclose=[path])


REDACTED = WordRedaction(b"493817", withhold=["response"])


@pytest.fixture
def redacted(tmp_path: Path) -> Iterator[tuple[Reader, str, str]]:
    """A log with one decision of which the PIN was redacted, and the answer withheld.

    Its reader, its policy, and the id of the decision.
    """
    said = {"request": b'{"pin": "493817", "n": 7}', "target": b"/s?pin=493817"}
    fill_log(tmp_path / "audit", 1)
    (id_,) = fill_log(tmp_path / "audit", 1, redaction=REDACTED, **said)
    with open_log(tmp_path / "audit") as log:
        yield Reader(log), log.paths.policy.read_text(), id_


def test_what_was_not_redacted_can_be_disclosed(
    redacted: tuple[Reader, str, str],
) -> None:
    reader, policy, id_ = redacted
    paths = ["request/n", "context/stored.request"]
    verdict = verify_receipt(reader.receipt(id_, disclose=paths), policy)
    assert verdict.disclosed == (
        ("request/n", b"7"),
        ("context/stored.request", b'{"pin": "[redacted]", "n": 7}'),
    )
    assert any("operator's redacted copy" in text for text in verdict.not_proven)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "request/pin",
            "'request/pin' was redacted .* or it was never there: .* stored instead is",
        ),
        ("request/other", "'request/other' was redacted .* or it was never there"),
        ("request", r"'request' was redacted when it was recorded: it can never be "),
        ("response", r"'response' was withheld when it was recorded: .* opened$"),
        ("context/target", r"'context/target' was redacted .* context/stored\.target$"),
        ("context/user", "nothing was captured at 'context/user'; a field is named"),
    ],
)
def test_what_was_redacted_is_refused_and_said_to_be(
    redacted: tuple[Reader, str, str], path: str, message: str
) -> None:
    reader, _, id_ = redacted
    with pytest.raises(NotFoundError, match=message):
        reader.receipt(id_, disclose=["request/n", path])


def test_a_full_opening_of_what_was_redacted_has_no_secret(
    redacted: tuple[Reader, str, str],
) -> None:
    reader, policy, id_ = redacted
    receipt = reader.receipt(id_, open_all=True)
    assert parse_receipt(receipt).secret is None
    verdict = verify_receipt(receipt, policy)
    assert [path for path, _ in verdict.disclosed] == [
        *("request/n", "context/redaction", "context/stored.request"),
        "context/stored.target",
    ]
    assert "anything about the 6 undisclosed leaves" in verdict.not_proven
    report = check_log(reader._log)
    assert (report.problems, report.unchecked) == ((), ())


def test_of_a_capped_body_a_redactor_saw_no_more_than_was_kept(tmp_path: Path) -> None:
    plain = WordRedaction(b"not there")
    (id_,) = fill_log(tmp_path / "audit", 1, request=LARGE, redaction=plain)
    with open_log(tmp_path / "audit") as log:
        reader = Reader(log)
        assert reader.content(id_).body("request").capped
        for path in ("request#16", "request"):
            with pytest.raises(NotFoundError, match=f"first bytes of '{path}' were"):
                reader.receipt(id_, disclose=[path])
        data = reader.receipt(id_, disclose=["request#15"])
        assert verify_receipt(data, log.policy()).disclosed[0][0] == "request#15"


@pytest.mark.parametrize(
    ("step", "vault"),
    [("destroyed", "sealed"), ("forgotten", "erased"), ("erased", "erased")],
)
def test_erased_content_is_said_to_be_erased(
    filled: Path, step: str, vault: str
) -> None:
    """As it is in the middle of an erasure, and after it."""
    with open_log(filled) as log:
        reader = Reader(log)
        id_ = format_id(reader.find(Query(type="auditlog.decision.v1"))[0].id)
        row = log.store.by_id(parse_id(id_))
        assert row is not None
        assert row.index is not None
        sealed = log.store.sealed(row.index)
        assert sealed is not None
        assert reader.decision(id_).vault == "sealed"
        before = reader.receipt(id_)
        reader.content(id_)  # from now on the key is in memory
        if step == "destroyed":
            log.keys.destroy(sealed[0])
        else:
            with log.store._database.writing() as database:
                database.execute("DELETE FROM keys WHERE key_id = ?", (sealed[0],))
                if step == "erased":
                    query = "UPDATE vault SET key_id = ?, sealed = ? WHERE idx = ?"
                    database.execute(query, (ERASED, b"", row.index))
        assert reader.decision(id_).vault == vault
        for ask in (reader.content, lambda id_: reader.receipt(id_, open_all=True)):
            with pytest.raises(NotFoundError, match=f"content of {id_} was erased"):
                ask(id_)
        assert verify_receipt(reader.receipt(id_), log.policy()).id == id_
        assert verify_receipt(before, log.policy()).id == id_


def test_a_path_that_was_not_captured_is_named(reader: Reader, ids: list[str]) -> None:
    with pytest.raises(NotFoundError, match="nothing was captured at 'request/x'"):
        reader.receipt(ids[0], disclose=["request/x"])


def test_content_is_what_was_captured(reader: Reader, ids: list[str]) -> None:
    content = reader.content(ids[9])
    assert content.request == b'{"age": 9, "name": "Ada"}'
    assert content.context["target"] == b"/score?lang=en"


def test_content_that_was_changed_is_not_returned(filled: Path, ids: list[str]) -> None:
    with open_log(filled) as log:
        row = log.store.by_id(parse_id(ids[9]))
        assert row is not None
        with log.store._database.writing() as db:
            db.execute(
                "UPDATE vault SET sealed = (SELECT sealed FROM vault WHERE idx = ?)"
                " WHERE idx = ?",
                ((row.index or 0) + 1, row.index),
            )
        with pytest.raises(VerificationError, match="seal"):
            Reader(log).content(ids[9])


def test_inclusion_and_consistency_hold_between_all_checkpoints(reader: Reader) -> None:
    newest, root = _size_and_root(reader.checkpoint())
    for index in range(0, newest, 17):
        proof = reader.inclusion(index)
        leaf = leaf_hash(reader.entry_at(index))
        verify_inclusion(index, newest, leaf, proof.hashes, root)
    log = reader._log
    for size in log.store.sizes(1, 100):
        found = log.store.covering(size)
        assert found is not None
        old_root = _size_and_root(found[1])[1]
        verify_consistency(
            size, old_root, newest, root, reader.consistency(size, newest)
        )


def test_proofs_that_cannot_be_given_say_why(reader: Reader) -> None:
    newest = _size_and_root(reader.checkpoint())[0]
    with pytest.raises(
        PendingError, match=f"entry {newest} is not under the checkpoint"
    ):
        reader.inclusion(newest)
    with pytest.raises(NotFoundError, match="no checkpoint of size 1 was published"):
        reader.inclusion(0, 1)
    with pytest.raises(NotFoundError, match=f"the newest checkpoint has size {newest}"):
        reader.consistency(1, newest + 1)
    with pytest.raises(MalformedError, match="expected 0 < from <= to"):
        reader.consistency(0, newest)


def test_tiles_and_bundles_are_what_the_checkpoint_implies(reader: Reader) -> None:
    newest = _size_and_root(reader.checkpoint())[0]
    entries = read_log(reader._log.paths.directory).entries
    assert parse_bundle(reader.tile("tile/entries/000")) == entries[:256]
    partial = reader.tile(f"tile/entries/001.p/{newest - 256}")
    assert parse_bundle(partial) == entries[256:newest]
    leaves = reader.tile("tile/0/000") + reader.tile(f"tile/0/001.p/{newest - 256}")
    assert leaves == b"".join(leaf_hash(entry) for entry in entries[:newest])


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("tile/0/009", "is not part of the log at size"),
        ("tile/2/000.p/1", "is not part of the log at size"),
        ("tile/entries/001", "is not part of the log at size"),
        ("tile/0/001.p/1", "no checkpoint implies this width"),
    ],
)
def test_what_the_checkpoint_does_not_imply_is_not_served(
    reader: Reader, path: str, message: str
) -> None:
    with pytest.raises(NotFoundError, match=message):
        reader.tile(path)


def test_rows_are_found_newest_first(reader: Reader) -> None:
    rows = reader.find(Query(model="credit", limit=10))
    indexes = [row.index or 0 for row in rows]
    assert indexes == sorted(indexes, reverse=True)
    assert len(rows) == 10
    more = reader.find(Query(model="credit", limit=10, before=indexes[-1]))
    assert (more[0].index or 0) < indexes[-1]
    assert reader.find(Query(model="nobody")) == []


@pytest.mark.parametrize("named", [7, None, "credit", "a gap"])
def test_a_decision_that_somebody_let_name_no_model_is_shown_without_one(
    tmp_path: Path, named: object
) -> None:
    """Its entry says what it says, and so does the log's check."""
    (told,) = fill_log(tmp_path / "other", 1)
    with open_log(tmp_path / "other", read_only=True) as other:
        entry = parse_entry(Reader(other).decision(told).entry or b"")
    with create_log(config_of(tmp_path / "log")) as log:
        (gap,) = gap_items(1, origin=log.origin)
        said = format_id(gap.row.id) if named == "a gap" else named
        forged = replace(entry, data={**entry.data, "model.entry": said})
        log.store.append([gap, plain_item(replace(forged, source=log.origin))])
        view = Reader(log).decision(told)
        assert view.entry is not None
        assert view.model is None
        assert any("of its model" in what for _, what in check_log(log).problems)
