"""All that is held on one person, as an archive for them (GDPR Art. 15 and 20).

::

    README.txt                 what this is, how to check it, what is not in it
    index.json                 every decision, and where it is
    decisions/<id>.json        one decision to read, and what was said of it later
    others/<id>.json           searches, exports, and what else is about no decision
    receipts/<id>.receipt.json proof of each entry, with all opened that may be
    policy                     public keys of log and witnesses, as the operator says

It is written as it is made: content of one decision at a time is in memory, and some
hundred bytes of each. Everything in it is held against its commitment before it goes
out. The export is an entry itself, durable before the first byte leaves.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from auditlog.core.errors import NotFoundError
from auditlog.core.record import DECISION, format_id, format_time
from auditlog.log.access import ACCESS, Access, Channel, Recipient, record_person_access
from auditlog.log.amendment import AMENDMENT
from auditlog.log.directory import LogDirectory
from auditlog.log.person import (
    Held,
    Person,
    about,
    check_lives,
    find_person,
    held_on,
    rows_at,
)
from auditlog.log.person_document import Document, document_of
from auditlog.log.person_readme import readme
from auditlog.log.reader import Reader
from auditlog.log.zip_stream import ZipStream
from auditlog.storage import IndexRow

__all__ = ["Exported", "export_person"]

SCHEMA = "auditlog.export.v1"


class Exported(NamedTuple):
    """What is in an archive."""

    decisions: int
    pending: int
    """Decisions that cannot be proven yet: no checkpoint covers them."""
    partly: int
    """Decisions of which something is not in it; the index says what."""
    unreadable: int
    """Entries, of whatever kind, of which what is stored is damaged."""
    receipts: int


def export_person(
    log: LogDirectory,
    kind: str,
    identifier: str,
    write: Callable[[bytes], object],
    *,
    recipient: Recipient,
    by: Mapping[str, str],
    channel: Channel,
    now: float,
) -> Exported:
    """Write an archive of all that is held on a person, and log that it was made.

    Args:
        log: the opened log, not read-only.
        kind: what the identifier identifies, such as ``person``.
        identifier: of the person; besides what is sealed, it stands in the archive.
        write: takes the next bytes. Without the last ones it is no archive: what is
            raised in between leaves nothing that opens.
        recipient: who gets it, and what for.
        by: who asks, as `auditlog.log.access.Access.by`.
        channel: through what.
        now: seconds since the epoch.

    Returns:
        What is in it.

    Raises:
        NotFoundError: nothing is held, or it was erased meanwhile; the message does
            not say on whom. If nothing was held, nothing was written.
        StorageError: it could not be read, or not be recorded that it was.
    """
    person = find_person(log, kind, identifier)
    access = Access("export", channel, by, recipient=recipient)
    record_person_access(log, person.key_id, access, now=now)
    held = held_on(log, person)
    with ZipStream(write, now) as archive:
        return _Export(log, person, archive).write(held, recipient, now)


class _Export:
    """One archive while it is made."""

    def __init__(self, log: LogDirectory, person: Person, archive: ZipStream) -> None:
        self._log = log
        self._reader = Reader(log)
        self._person = person
        self._archive = archive
        self._firm = self._reader.firm_levels()
        self._states: dict[str, int] = {}
        self._receipts = self._unreadable = 0

    def write(self, held: Held, recipient: Recipient, now: float) -> Exported:
        # Encoded, so that many decisions are few bytes.
        decisions, others = [], []
        for row in rows_at(self._log, held.indices):
            if row.type == DECISION:
                decisions.append(msgspec.json.encode(self._decision(row)))
            elif not self._is_told_with_its_decision(row):
                others.append(msgspec.json.encode(self._other(row)))
        done = self._done(len(decisions), len(held.on_their_way))
        index = {
            "schema": SCHEMA,
            "log": self._log.origin,
            "made": format_time(int(now * 1_000_000)),
            "subject": {
                "kind": self._person.kind,
                "identifier": self._person.identifier,
            },
            "recipient": recipient._asdict(),
            "counts": done._asdict(),
            "decisions": _raw(decisions),
            "pending": [_pending(row) for row in held.on_their_way],
            "others": _raw(others),
        }
        self._archive.add("index.json", _text(index))
        self._archive.add("policy", self._log.policy_path.read_bytes())
        self._archive.add("README.txt", self._readme(done))
        # Of somebody who was forgotten while this was made, nothing goes out whole.
        check_lives(self._log, self._person)
        return done

    def _readme(self, done: Exported) -> bytes:
        return readme(self._log.origin, **done._asdict()).encode()

    def _done(self, decisions: int, on_their_way: int) -> Exported:
        of = self._states.get
        return Exported(
            decisions,
            of("pending", 0) + on_their_way,
            of("partly", 0),
            self._unreadable,
            self._receipts,
        )

    def _decision(self, row: IndexRow) -> dict[str, Any]:
        """Write a decision, and what was said and seen of it; return its index line."""
        made = self._document(row)
        later = [
            self._later(one)
            for type_ in (AMENDMENT, ACCESS)
            for one in about(self._log, row, type_)
        ]
        said = made.said | {"later": later}
        file = self._add("decisions", said)
        self._states[made.state] = self._states.get(made.state, 0) + 1
        return {
            "id": said["id"],
            "time": said["time"],
            "route": row.route,
            "outcome": row.outcome,
            "model": row.model,
            "version": row.version,
            "state": made.state,
            "file": file,
            "receipts": self._write_receipts(made),
            "missing": said.get("missing", []),
        }

    def _later(self, row: IndexRow) -> dict[str, Any]:
        made = self._document(row)
        return made.said | {"receipts": self._write_receipts(made)}

    def _other(self, row: IndexRow) -> dict[str, Any]:
        made = self._document(row)
        file = self._add("others", made.said)
        files = self._write_receipts(made)
        known = {name: made.said[name] for name in ("id", "type", "time")}
        return known | {"state": made.state, "file": file, "receipts": files}

    def _is_told_with_its_decision(self, row: IndexRow) -> bool:
        store = self._log.store
        decision = None if row.about is None else store.by_id(row.about)
        if decision is None or decision.index is None or decision.type != DECISION:
            return False
        sealed = store.sealed(decision.index)
        return sealed is not None and sealed[0] == self._person.key_id

    def _document(self, row: IndexRow) -> Document:
        try:
            made = document_of(self._reader, row, firm=self._firm)
        except NotFoundError:
            check_lives(self._log, self._person)
            raise
        self._unreadable += made.state == "unreadable"
        return made

    def _add(self, directory: str, said: dict[str, Any]) -> str:
        name = f"{directory}/{said['id']}.json"
        self._archive.add(name, _text(said))
        return name

    def _write_receipts(self, made: Document) -> list[str]:
        names = [f"receipts/{name}.receipt.json" for name, _ in made.receipts]
        for name, (_, receipt) in zip(names, made.receipts, strict=True):
            self._archive.add(name, receipt)
        self._receipts += len(names)
        return names


def _pending(row: IndexRow) -> dict[str, Any]:
    return {
        "id": format_id(row.id),
        "time": format_time(row.time),
        "route": row.route,
        "outcome": row.outcome,
    }


def _raw(encoded: list[bytes]) -> list[msgspec.Raw]:
    return [msgspec.Raw(one) for one in encoded]


def _text(said: dict[str, Any]) -> bytes:
    return msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n"
