"""An archive of all that is held on one person: whole, provable, and nobody else's."""

import io
import json
import os
import tracemalloc
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from auditlog.capture.body import Body
from auditlog.core.checkpoint import parse_policy
from auditlog.core.errors import NotFoundError, StorageError
from auditlog.core.note import COSIGNATURE_ED25519, Signer, make_signer
from auditlog.core.receipt import MAX_RECEIPT, parse_receipt
from auditlog.core.record import format_id
from auditlog.core.verify import verify_receipt
from auditlog.log.access import ACCESS, Access, Recipient, record_person_access
from auditlog.log.amending import append_amendment
from auditlog.log.amendment import aftermath_entry, amendment
from auditlog.log.person import NOTHING_HELD, find_person
from auditlog.log.person_export import Exported, export_person
from auditlog.log.preparation import plain_item
from auditlog.storage import Query
from auditlog.storage.acceptance import AcceptanceFile
from tests.log.builders import ORIGIN, now_us
from tests.log.redactions import WordRedaction
from tests.people import ADA, BOB, People

HER = Recipient("The person herself", "Art. 15 GDPR")
SECRETS = (b"of-bob", BOB.encode())


@pytest.fixture
def people(tmp_path: Path) -> Iterator[People]:
    made = People(tmp_path / "audit")
    yield made
    made.log.close()


class Archive:
    """What an export wrote."""

    def __init__(self, people: People, subject: str = ADA) -> None:
        self.people = people
        data = io.BytesIO()
        self.done = export(people, data.write, subject)
        self.data = data.getvalue()
        self.zip = zipfile.ZipFile(io.BytesIO(self.data))
        assert self.zip.testzip() is None
        self.index: dict[str, Any] = self.json("index.json")

    def json(self, name: str) -> Any:
        return json.loads(self.zip.read(name))

    def decision(self, id_: str) -> Any:
        return self.json(f"decisions/{id_}.json")

    def opened(self, name: str) -> dict[str, bytes]:
        """Verify a receipt by the policy in the archive; return what it opens."""
        receipt = self.zip.read(f"receipts/{name}.receipt.json")
        verify_receipt(receipt, parse_policy(self.zip.read("policy").decode()))
        return {one.path: one.value for one in parse_receipt(receipt).disclosures}

    def every_byte(self) -> bytes:
        return b"".join(self.zip.read(name) for name in self.zip.namelist())


def export(
    people: People, write: Callable[[bytes], object], subject: str = ADA
) -> Exported:
    return export_person(
        people.log,
        "person",
        subject,
        write,
        recipient=HER,
        by={"login": "dpo"},
        channel="cli",
        now=now_us() / 1e6,
    )


# --- one decision ---------------------------------------------------------------------


def test_every_decision_is_there_to_read_and_opens_by_its_receipt(
    people: People,
) -> None:
    id_ = people.record(ADA)
    people.record(BOB, request=b'{"name": "of-bob"}')
    people.checkpoint()
    archive = Archive(people)
    assert archive.done == Exported(1, 0, 0, 0, 1)
    (line,) = archive.index["decisions"]
    assert (line["id"], line["state"], line["missing"]) == (id_, "whole", [])
    assert (line["route"], line["model"]) == ("/score", "credit")
    said = archive.json(line["file"])
    assert said["request"]["json"] == {"age": 41, "name": "Ada"}
    assert said["response"]["json"] == {"decision": "approve", "score": 0.87}
    assert said["context"]["target"] == {"text": "/score?lang=en"}
    assert said["context"]["subject"]["json"] == {"id": ADA, "kind": "person"}
    assert (said["outcome"], said["level"]) == ("completed", "included")
    opened = archive.opened(id_)
    assert opened["request"] == b'{"age": 41, "name": "Ada"}'
    assert {"response", "request/age", "context/subject"} < set(opened)
    assert not [secret for secret in SECRETS if secret in archive.every_byte()]


def test_names_are_the_same_each_time_and_nothing_else_is_in_it(
    people: People,
) -> None:
    id_ = people.record(ADA)
    people.checkpoint()
    archive = Archive(people)
    (itself,) = archive.index["others"]
    assert sorted(archive.zip.namelist()) == [
        "README.txt",
        f"decisions/{id_}.json",
        "index.json",
        f"others/{itself['id']}.json",
        "policy",
        f"receipts/{id_}.receipt.json",
    ]


def test_json_is_told_as_it_was_written(people: People) -> None:
    """A number that was read and written again may be another one."""
    body = b'{"a": 1.10, "b": 123456789012345678901234, "a": 2}'
    id_ = people.record(ADA, request=body)
    people.checkpoint()
    text = Archive(people).zip.read(f"decisions/{id_}.json").decode()
    assert '"a": 1.10' in text
    assert '"b": 123456789012345678901234' in text


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (b'{"a": NaN}', {"text": '{"a": NaN}'}),
        (b"\xff\x00", {"base64": "/wA="}),
        (b'["\\ud800"]', {"text": '["\\ud800"]'}),
        (b"[" * 65 + b"]" * 65, {"text": "[" * 65 + "]" * 65}),
        (b"[" * 64 + b"]" * 64, {"json": json.loads("[" * 64 + "]" * 64)}),
        (b"17", {"text": "17"}),
        (b"", {"text": ""}),
    ],
)
def test_any_bytes_are_told(people: People, body: bytes, shown: object) -> None:
    id_ = people.record(ADA, request=body, request_type="application/json")
    people.checkpoint()
    archive = Archive(people)
    said = archive.decision(id_)["request"]
    assert {k: said[k] for k in said if k in ("json", "text", "base64")} == shown
    assert archive.opened(id_)["request"] == body


def test_what_happened_later_and_who_was_given_it_stands_beside_it(
    people: People,
) -> None:
    id_ = people.record(ADA)
    amended = append_amendment(
        people.log, amendment(id_, "human_review", reason="looked at"), now_us()
    )
    after = aftermath_entry(_raw(id_), "client_disconnected", ORIGIN, now_us())
    people.log.store.append([plain_item(after)])
    people.checkpoint()
    archive = Archive(people)
    review, gone = archive.decision(id_)["later"]
    assert review["kind"] == "human_review"
    assert review["context"]["reason"]["json"] == {"text": "looked at"}
    assert gone["kind"] == "client_disconnected"
    assert b"looked at" in archive.opened(format_id(amended))["context/reason"]
    assert archive.opened(format_id(after.id)) == {}


def _raw(id_: str) -> bytes:
    return bytes.fromhex(id_.replace("-", ""))


def test_who_was_given_it_is_told_and_who_of_the_staff_looked_is_not(
    people: People,
) -> None:
    people.record(ADA)
    person = find_person(people.log, "person", ADA)
    access = Access(
        "search", "api", {"login": "clerk-17"}, recipient=Recipient("Court")
    )
    id_ = record_person_access(people.log, person.key_id, access, now=now_us() / 1e6)
    people.checkpoint()
    archive = Archive(people)
    told, itself = archive.index["others"]
    assert told["id"] == id_
    said = archive.json(told["file"])
    assert said["context"] == {"recipient": {"json": {"name": "Court"}}}
    assert [one["what"] for one in said["missing"]] == ["context/user"]
    assert set(archive.opened(id_)) == {"context/recipient"}
    assert b"clerk-17" not in archive.every_byte()
    # This export itself is too new to be proven, and is told all the same.
    assert (itself["state"], itself["receipts"]) == ("pending", [])


def test_who_of_the_staff_amended_it_is_not_told_either(people: People) -> None:
    id_ = people.record(ADA)
    said = amendment(id_, "override", by="clerk-17", reason="a mistake")
    token = {"token": {"label": "clerk-18", "token": "0" * 12}}
    said = said._replace(facts=said.facts.plus("user", token))
    amended = format_id(append_amendment(people.log, said, now_us()))
    people.checkpoint()
    archive = Archive(people)
    (override,) = archive.decision(id_)["later"]
    assert override["context"] == {"reason": {"json": {"text": "a mistake"}}}
    assert [one["what"] for one in override["missing"]] == ["context/user"]
    assert set(archive.opened(amended)) == {"context/reason"}
    receipt = archive.zip.read(f"receipts/{amended}.receipt.json")
    assert parse_receipt(receipt).secret is None
    assert b"clerk-1" not in archive.every_byte()


# --- what is not in it ----------------------------------------------------------------


def test_what_was_kept_in_part_is_told_with_how_much_of_it(people: People) -> None:
    secret = os.urandom(32)
    body = Body(secret, 0, 10)
    body.feed(b"0123456789 and more")
    body.state = "complete"
    id_ = people.record(ADA, secret=secret, request=body, request_type="text/plain")
    people.checkpoint()
    archive = Archive(people)
    (missing,) = archive.decision(id_)["missing"]
    assert missing == {
        "what": "request",
        "why": "only the first 10 of 19 bytes were kept",
    }
    assert archive.decision(id_)["request"]["text"] == "0123456789"
    assert archive.index["decisions"][0]["state"] == "partly"
    assert "request" not in archive.opened(id_)


def test_what_was_redacted_is_told_and_its_copy_is_shown(people: People) -> None:
    redaction = WordRedaction(b"Ada", b"0.87", withhold={"response", "target"})
    id_ = people.record(ADA, redaction=redaction)
    people.checkpoint()
    archive = Archive(people)
    said = archive.decision(id_)
    assert said["request"]["json"] == {"age": 41, "name": "[redacted]"}
    assert said["response"]["text"] == ""
    assert {one["what"]: one["why"] for one in said["missing"]} == {
        "request": "something was taken out before it was stored; the rest is here",
        "response": "it was left out before it was stored",
        "target": "it was left out before it was stored",
    }
    opened = archive.opened(id_)
    assert opened["request/age"] == b"41"
    assert "[redacted]" in opened["context/stored.request"].decode()
    assert b'"Ada"' not in archive.every_byte()
    assert archive.done.partly == 1


def test_what_is_larger_than_a_receipt_stands_in_the_document_alone(
    people: People,
) -> None:
    large = {"text": "z" * MAX_RECEIPT}
    id_ = people.record(ADA, said={"stored.request": large, "trace": {"id": "7"}})
    people.checkpoint()
    archive = Archive(people)
    assert archive.done.partly == 1
    said = archive.decision(id_)
    assert len(said["request"]["json"]["text"]) == MAX_RECEIPT
    (missing,) = said["missing"]
    assert missing["what"] == "what the receipt does not open"
    assert missing["why"].startswith("it cannot be made: expected a receipt of at most")
    small = {"context/subject", "context/target", "context/trace"}
    assert set(archive.opened(id_)) == small


def test_a_decision_under_no_checkpoint_is_told_as_pending(people: People) -> None:
    old = people.record(ADA)
    people.checkpoint()
    new = people.record(ADA)
    coming = people.item(ADA)
    file = AcceptanceFile.create(people.log.paths.journals, bytes(16))
    assert file.append([coming])
    archive = Archive(people)
    file.close(clean=True)
    assert [one["state"] for one in archive.index["decisions"]] == ["whole", "pending"]
    assert archive.decision(new)["request"]["json"]["name"] == "Ada"
    assert [one["id"] for one in archive.index["pending"]] == [format_id(coming.row.id)]
    assert archive.done == Exported(2, 2, 0, 0, 1)
    assert f"receipts/{old}.receipt.json" in archive.zip.namelist()
    assert (
        "2 decisions no signed state covers" in archive.zip.read("README.txt").decode()
    )


def test_what_no_witness_has_seen_is_pending_where_the_policy_asks_for_one(
    people: People,
) -> None:
    """A receipt of it would be refused by the very policy that is in the archive."""
    people.record(ADA)
    people.checkpoint()
    (vkey,) = (s.verifier.vkey for s in _witness_keys())
    policy = people.log.policy_path
    policy.write_text(
        policy.read_text().replace(
            "quorum none", f"witness w {vkey} https://w.example\nquorum w"
        )
    )
    archive = Archive(people)
    assert archive.done == Exported(1, 1, 0, 0, 0)
    assert archive.index["decisions"][0]["state"] == "pending"


def _witness_keys() -> list[Signer]:
    return [make_signer("w.example/w", COSIGNATURE_ED25519, bytes(32))]


def test_a_damaged_decision_is_told_and_hides_no_other(people: People) -> None:
    bad, good = people.record(ADA), people.record(ADA)
    people.checkpoint()
    with people.log.store._database.writing() as connection:
        connection.execute("UPDATE vault SET sealed = zeroblob(99) WHERE idx = 0")
    archive = Archive(people)
    assert archive.done == Exported(2, 0, 0, 1, 2)
    states = {one["id"]: one["state"] for one in archive.index["decisions"]}
    assert states == {bad: "unreadable", good: "whole"}
    assert archive.opened(bad) == {}
    (missing,) = archive.decision(bad)["missing"]
    assert missing["what"] == "everything"
    assert missing["why"].startswith("it cannot be opened: ")


def test_what_was_said_later_and_is_damaged_counts_as_well(people: People) -> None:
    id_ = people.record(ADA)
    append_amendment(people.log, amendment(id_, "appeal", reason="no"), now_us())
    people.checkpoint()
    with people.log.store._database.writing() as connection:
        connection.execute("UPDATE vault SET sealed = zeroblob(99) WHERE idx = 1")
    archive = Archive(people)
    assert archive.done == Exported(1, 0, 0, 1, 2)
    assert (
        "of 1 record what is stored is damaged"
        in archive.zip.read("README.txt").decode()
    )


def _nothing_may(data: bytes) -> None:
    pytest.fail("something was written")


def test_nothing_held_writes_nothing_and_says_nothing(people: People) -> None:
    people.record(BOB)
    with pytest.raises(NotFoundError) as told:
        export(people, _nothing_may)
    assert str(told.value) == NOTHING_HELD
    assert people.log.store.find(Query(type=ACCESS)) == []


def test_who_is_forgotten_while_it_is_made_is_in_no_archive(people: People) -> None:
    people.record(ADA)
    person = find_person(people.log, "person", ADA)
    out = io.BytesIO()

    def write(data: bytes) -> None:
        with people.log.store._database.writing() as connection:
            connection.execute("DELETE FROM keys WHERE key_id = ?", (person.key_id,))
        out.write(data)

    with pytest.raises(NotFoundError, match=NOTHING_HELD):
        export(people, write)
    assert not zipfile.is_zipfile(out)


def test_what_fails_half_way_leaves_no_archive(people: People) -> None:
    for _ in range(3):
        people.record(ADA)
    people.checkpoint()
    whole = len(Archive(people).data)
    out = io.BytesIO()

    def write(data: bytes) -> None:
        if out.tell() > whole // 2:
            raise OSError("the pipe is gone")
        out.write(data)

    with pytest.raises(OSError, match="the pipe is gone"):
        export(people, write)
    assert not zipfile.is_zipfile(out)
    # Whoever took the first half has seen it: the entry stands.
    assert len(people.log.store.find(Query(type=ACCESS))) == 2


def test_nothing_leaves_before_it_is_in_the_log(
    people: People, monkeypatch: pytest.MonkeyPatch
) -> None:
    people.record(ADA)

    def full(items: object) -> int:
        raise StorageError("disk full")

    monkeypatch.setattr(people.log.store, "append", full)
    with pytest.raises(StorageError, match="disk full"):
        export(people, _nothing_may)


# --- data of others -------------------------------------------------------------------

BATCH = b'{"instances": [{"who": "ada"}, {"who": "of-bob"}, {"who": "of-eve"}]}'
SCORES = b'{"predictions": [0.1, 0.2, 0.3]}'


def batch(
    people: People, *subjects: str, request: bytes = BATCH, **fields: object
) -> list[str]:
    """Record a batch with an item for each subject; the first one holds the bodies."""
    size = len(subjects)
    said: dict[str, object] = {"annotations": {"auditlog.batch": {"size": size}}}
    made = [
        people.record(
            subjects[0], said=said, request=request, response=SCORES, **fields
        )
    ]
    for index, subject in enumerate(subjects[1:], 1):
        place = {"decision": made[0], "index": index, "size": size}
        said = {"annotations": {"auditlog.batch": place}}
        made.append(people.record(subject, said=said, request=b"", response=b""))
    people.checkpoint()
    return made


def test_the_body_of_a_batch_is_opened_only_at_the_items_own_place(
    people: People,
) -> None:
    first, *_ = batch(people, ADA, BOB, "eve")
    archive = Archive(people)
    said = archive.decision(first)
    assert {
        path: one["text" if "text" in one else "json"]
        for path, one in said["own"].items()
    } == {
        "request/instances/0": {"who": "ada"},
        "response/predictions/0": "0.1",
    }
    assert "request" not in said
    assert said["missing"][-1]["why"].startswith(
        "they hold data of others too, in a batch"
    )
    opened = archive.opened(first)
    assert {path for path in opened if not path.startswith("context/")} == {
        "request/instances/0",
        "response/predictions/0",
    }
    assert "context/target" not in opened
    assert b"of-bob" not in archive.every_byte()
    assert b"of-eve" not in archive.every_byte()


def test_an_item_is_shown_its_place_in_the_body_that_another_holds(
    people: People,
) -> None:
    first, second, _ = batch(
        people, BOB, ADA, "eve", request=BATCH.replace(b"ada", b"of-ada")
    )
    archive = Archive(people)
    said = archive.decision(second)
    assert said["own"]["response/predictions/1"] == {"text": "0.2"}
    assert set(archive.opened(f"{second}.batch")) == {
        "request/instances/1",
        "response/predictions/1",
    }
    assert archive.zip.read(f"receipts/{second}.batch.receipt.json").count(
        first.encode()
    )
    assert BOB.encode() not in archive.every_byte()
    assert b"of-eve" not in archive.every_byte()


def test_where_the_place_cannot_be_told_nothing_of_the_body_is_shown(
    people: People,
) -> None:
    request = b'{"rows": ["of-bob", "x", "of-eve"]}'
    first, second, _ = batch(people, ADA, ADA, "eve", request=request)
    archive = Archive(people)
    assert set(archive.decision(first)["own"]) == {"response/predictions/0"}
    assert set(archive.decision(second)["own"]) == {"response/predictions/1"}
    assert b"of-bob" not in archive.every_byte()


def test_of_a_body_that_was_redacted_no_place_can_be_told(people: People) -> None:
    redaction = WordRedaction(b"of-eve")
    (first, second) = batch(people, ADA, ADA, redaction=redaction)
    archive = Archive(people)
    assert set(archive.decision(first)["own"]) == set()
    assert "own" not in archive.decision(second)
    assert b"of-bob" not in archive.every_byte()


@pytest.mark.parametrize("withheld", [True, False])
def test_where_it_was_redacted_that_it_is_a_batch_nothing_is_opened(
    people: People, withheld: bool
) -> None:
    redaction = WordRedaction(b"size", withhold={"annotations"} if withheld else ())
    said: dict[str, object] = {"annotations": {"auditlog.batch": {"size": 3}}}
    people.record(ADA, said=said, redaction=redaction, request=BATCH)
    people.checkpoint()
    assert b"of-bob" not in Archive(people).every_byte()


def test_an_item_whose_body_was_erased_with_another_says_so(people: People) -> None:
    first, second = batch(people, BOB, ADA)
    assert first
    person = find_person(people.log, "person", BOB)
    with people.log.store._database.writing() as connection:
        connection.execute("DELETE FROM keys WHERE key_id = ?", (person.key_id,))
    archive = Archive(people)
    (missing,) = archive.decision(second)["missing"]
    assert missing["why"].startswith("they are held by another decision of the batch")
    assert archive.done.partly == 1


# --- size -----------------------------------------------------------------------------


def test_memory_does_not_grow_with_the_number_of_decisions(people: People) -> None:
    body = json.dumps({"text": "x" * 80_000}).encode()
    peaks = []
    for more, total in ((4, 4), (20, 24)):
        items = [people.item(ADA, request=body) for _ in range(more)]
        people.log.store.append(items)
        del items
        people.checkpoint()
        tracemalloc.start()
        assert export(people, len).decisions == total
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 20 more decisions of 80 kB and their receipts would be some 5 MB.
    assert peaks[1] - peaks[0] < 20 * 4096
