"""A log to tamper with, and every way to: each column of each table.

Changes are derived from the schema, so that a new column cannot be forgotten. The same
ones are made one at a time to a small log, and many at once to a large one.
"""

import re
import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from auditlog.core.errors import AuditLogError
from auditlog.core.note import COSIGNATURE_ED25519, make_signer, split_unverified_note
from auditlog.core.record import DECISION
from auditlog.core.tiles import parse_tile_path
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.backing import back_up, forget
from auditlog.log.check import CheckReport, check_log
from auditlog.log.directory import create_log, open_log
from auditlog.log.erasing import erase, plan_erasure
from auditlog.log.finishing import finish
from auditlog.log.losing import declare_lost
from auditlog.log.runtime import Runtime
from auditlog.log.sequencer import Sequencer
from auditlog.log.token_scope import make_scope
from auditlog.log.tokens import create_token
from auditlog.models.identity import Model
from auditlog.storage import AttestationRow, Cosignature, Query
from tests.log.builders import config_of, exchange, gap_items, now_us
from tests.log.erasures import give_to

__all__ = [
    "TABLES",
    "UNSEEN",
    "Change",
    "build",
    "every_change",
    "expected",
    "found",
    "is_named",
    "tamper",
    "tamper_often",
]

_DAY = 86_400_000_000
_ANCHORS = [
    ("one", "ots", "final"),
    ("two", "evm", "final"),
    ("two+history", "evm", "kept"),
]
_WITNESSES = [
    make_signer(f"w{n}.example", COSIGNATURE_ED25519, bytes([n]) * 32) for n in (1, 2)
]
TABLES = {
    "attestations": "size, anchor",
    "checkpoints": "size",
    "cosignatures": "size, key",
    "entry_index": "idx",
    "erasures": "id",
    "head": "id",
    "keyring_backups": "id",
    "keys": "slot",
    "lost_keys": "slot",
    "meta": "key",
    "objects": "path",
    "spool": "first",
    "tokens": "hash",
    "vault": "idx",
}
"""What makes rows of each table neighbours."""
UNSEEN = {
    ("tokens", "*"): "who may ask is configuration, about which no entry speaks",
    ("head", "generation"): "it only counts how often the head moved",
    ("meta", "duplicated"): "a row that nobody asks for",
    ("erasures", "time"): "when a slot was overwritten, of which no entry speaks",
    ("cosignatures", "deleted"): "whoever has a copy of it, or the witness, knows",
}
"""What no check can find, or need find, by table and column or row change; and why."""
_OF_VALUES = ("changed", "emptied", "retyped", "copied", "swapped")
_OF_ROWS = ("deleted", "duplicated")
_BUNDLE = 256
_NOUNS = {
    "entry_index": "index row",
    "spool": "(?:entr(?:y|ies)|(?:index|vault) row)",
    "vault": "vault row",
}
"""Tables whose rows a check may name as a range."""


class Change(NamedTuple):
    """What somebody with write access does to one value, or to one row."""

    table: str
    column: str
    """Empty where it is done to a whole row."""
    how: str
    """A value is changed, emptied, made another type's, copied from its neighbour or
    swapped with it; a row is deleted, or duplicated under keys that are free."""


_SHOWN = {
    Change("erasures", "slot", "swapped"): "unseen",  # both are to hold zeros still
    Change("erasures", "time", "retyped"): "named",
    Change("keys", "slot", "swapped"): "unchecked",
    # Which slot it was says nothing, but that one less is accounted for.
    Change("lost_keys", "slot", "changed"): "unchecked",
    Change("lost_keys", "key_id", "swapped"): "unseen",
    Change("lost_keys", "slot", "swapped"): "unseen",
}


def build(directory: Path, decisions: int, others: int) -> None:
    """Make a log of two emitters, two epochs and many cosigned checkpoints.

    Args:
        directory: where nothing is yet.
        decisions: with sealed content, half before and half after the others.
        others: entries without content.
    """
    create_log(config_of(directory)).close()
    with (directory / "policy").open("a", encoding="utf-8") as policy:
        for number, witness in enumerate(_WITNESSES):
            policy.write(f"witness w{number} {witness.verifier.vkey}\n")
    _record(directory, decisions // 2, now_us() - _DAY)
    with open_log(directory) as log:
        sequencer = Sequencer(log.store, log.origin, log.signers)
        items, step = gap_items(others), max(50, others // 50)
        for at in range(0, others, step):
            log.store.append(items[at : at + step])
            sequencer.step()
    _record(directory, decisions - decisions // 2, now_us())
    _erase(directory)
    _lose(directory)
    _back_up(directory)
    _attest(directory)
    _cosign(directory)
    _drop_unsigned(directory)


def _drop_unsigned(directory: Path) -> None:
    """Remove partial tiles of trees that were never signed, which nobody can miss.

    A sequencer in a hurry makes some: entries came in while it was at work.
    """
    with open_log(directory) as log:
        tiles = {path: parse_tile_path(path) for path in log.store.object_paths()}
        sizes = log.store.sizes(0, 1 << 30)
        needed = {
            (level, *divmod(size >> 8 * level, 256))
            for size in sizes
            for level in range(4)
        }
        partial = [path for path, tile in tiles.items() if tile.width < 256]
        log.store.prune([path for path in partial if tuple(tiles[path]) not in needed])


def _record(directory: Path, count: int, time: int) -> None:
    runtime, recorded = Runtime(config_of(directory, checkpoint_decisions=25)), []
    for number in range(count):
        one = exchange(
            0,
            request=b'{"age": %d}' % number,
            time=time + number,
            route=f"/score/{number % 2}",
            model=Model(f"credit-{number % 2}", f"{number % 2}"),
            outcome="error" if number % 2 else "completed",
        )
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)
        recorded.append(one.id)
    for id_ in recorded[::3]:
        runtime.amend(id_, "error_after_response")
    runtime.stop()


def _back_up(directory: Path) -> None:
    """Make backups of the keyring, one of them forgotten."""
    with open_log(directory) as log:
        rows = [
            back_up(log, directory.parent / f"copy-{n}", n * _DAY, now_us()).row
            for n in (2, 3, 4)
        ]
        forget(log, rows[1].id, now_us())


def _erase(directory: Path) -> None:
    """Erase four people of whom there is a decision each, two of them for good."""
    with open_log(directory) as log:
        rows = log.store.find(Query(type=DECISION, limit=4))
        for number, row in enumerate(rows):
            assert row.index is not None
            give_to(log, f"{number}", row.index)
            now = now_us()
            erase(log, plan_erasure(log, "person", f"{number}", now), now=now)
            if number == 1:
                assert finish(log, now_us(), wait=5) == 2
        assert log.store.sweep()
        Sequencer(log.store, log.origin, log.signers).step()


def _lose(directory: Path) -> None:
    """Declare the keys of two people lost about whom there is no content."""
    with open_log(directory) as log:
        for number in range(2):
            key_id, _ = log.keys.subject_key("person", f"lost {number}")
            log.keys.destroy(key_id)
        assert len(declare_lost(log, now_us()).key_ids) == 2


def _attest(directory: Path) -> None:
    """Have two anchors attest every checkpoint, the last one still pending.

    One of them is told each tree, too.
    """
    with open_log(directory) as log:
        ledger = Ledger(log.store, log.origin)
        sizes = log.store.sizes(0, 1 << 30)
        for size in sizes:
            for anchor, kind, last in _ANCHORS:
                state = "pending" if size == sizes[-1] else last
                evidence = b'{"stamp":"%s %d"}' % (anchor.encode(), size)
                row = AttestationRow(size, anchor, kind, "pending", b"{}", 0, now_us())
                ledger.keep(row, 1)
                kept = log.store.newest_change(anchor)
                assert kept is not None
                kept = kept._replace(updated=now_us())
                ledger.keep(kept._replace(state=state, evidence=evidence), 1)
        Sequencer(log.store, log.origin, log.signers).step()


def _cosign(directory: Path) -> None:
    with open_log(directory) as log:
        for size in log.store.sizes(0, 1 << 30):
            published = log.store.covering(size)
            assert published is not None
            text, _ = split_unverified_note(published[1])
            log.store.add_cosignatures(
                [
                    Cosignature(size, one.verifier.key, time, one.sign(text, time))
                    for time, one in enumerate(_WITNESSES, 1_800_000_000)
                ]
            )
        for number, role in enumerate(("auditor", "content")):
            create_token(
                log.store,
                role,
                label=role,
                now=1_800_000_000,
                expires=1_900_000_000 + number,
                scope=make_scope(routes=[f"/score/{number}"]),
            )


def every_change(database: Path) -> list[Change]:
    """Return every change to every column, and to a row, of every table of a store."""
    with _opened(database) as db:
        query = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name"
        names = [name for (name,) in db.execute(query)]
        return [
            Change(name, column, how)
            for name in names
            for column in ["", *_Table(db, name).columns]
            for how in (_OF_VALUES if column else _OF_ROWS)
        ]


def expected(change: Change) -> str:
    """Return how a change must show: named, refused, unchecked or unseen."""
    table, column, how = change
    if (table, how) == ("meta", "duplicated"):
        return "unseen"
    if table == "meta" or (table, how) in {("head", "deleted"), ("head", "retyped")}:
        return "refused"
    if change in _SHOWN:
        return _SHOWN[change]
    if {(table, "*"), (table, column or how)} & UNSEEN.keys():
        return "unseen"
    if table == "keys" and how != "retyped":
        # A slot that a key was led away from belongs to none.
        away = column == "slot" and how == "changed"
        unopened = column == "slot" or how == "duplicated"
        return "unchecked" if unopened and not away else "named"
    return "named"


def tamper(
    database: Path, change: Change, part: float, leave: Collection[Any] = ()
) -> list[Any] | None:
    """Make a change to a store that nobody has open.

    Args:
        database: the file.
        change: what to do.
        part: how far into the table, from 0 to 1.
        leave: first keys of rows that are not to be touched.

    Returns:
        The first key of each row touched; None if no two rows differ so, or the
        constraints of the table forbid it.
    """
    with _opened(database) as db:
        try:
            touched = _Table(db, change.table).make(change, part, leave)
        except sqlite3.IntegrityError:
            db.rollback()
            return None
        db.commit()
        return touched


def tamper_often(database: Path, table: str) -> list[tuple[Change, list[Any]]]:
    """Make each change to a table that must be named, each in a place of its own.

    Returns:
        What was made, with the keys of the rows touched.
    """
    changes = [one for one in every_change(database) if one.table == table]
    changes = [one for one in changes if expected(one) == "named"]
    # From the end on: what is deleted or moved must not shift the places before it.
    parts = [(2 * number + 1) / (2 * len(changes)) for number in range(len(changes))]
    made: list[tuple[Change, list[Any]]] = []
    for change, part in zip(changes, reversed(parts), strict=True):
        taken = {key for _, touched in made for key in touched}
        if touched := tamper(database, change, part, taken):
            made.append((change, touched))
    return made


def found(directory: Path) -> CheckReport | AuditLogError:
    """Return what a check says of a log, or how it was refused."""
    try:
        with open_log(directory, read_only=True) as log:
            return check_log(log)
    except AuditLogError as error:
        return error


def is_named(change: Change, touched: Sequence[Any], report: CheckReport) -> bool:
    """Return whether a check named the rows that a change touched."""
    places = [problem.where for problem in report.problems]
    if change.table == "keys":
        return any("sealed under" in what for _, what in report.problems) or any(
            place in ("keys", "keys and files", "keys of the vault")
            or place.startswith("keyring slot")
            for place in places
        )
    by = [any(_names(change.table, key, where) for where in places) for key in touched]
    return all(by) if change.how == "swapped" else any(by)


def _names(table: str, key: Any, where: str) -> bool:
    if table in _NOUNS:
        numbers = re.match(f"{_NOUNS[table]} ([0-9]+)(?: to ([0-9]+))?", where)
        if numbers is None:
            return False
        first, last = int(numbers[1]), int(numbers[2] or numbers[1])
        reach = _BUNDLE if table == "spool" else 0
        return bool(first <= key + reach and key - reach // _BUNDLE <= last)
    names = {
        "attestations": (f"attestation {key}", "attestations"),
        "checkpoints": (f"checkpoint {key}", f"cosignature {key}"),
        "cosignatures": (f"cosignature {key}", f"checkpoint {key}", "cosignatures"),
        "erasures": (
            f"erasure {key.hex() if isinstance(key, bytes) else key}",
            *("erasures", "keys"),
        ),
        "head": ("head",),
        "keyring_backups": (f"keyring backup {_hex(key)}", "keys of the vault"),
        "lost_keys": ("lost key", "keys", "erasures", "keys of the vault"),
        "objects": (f"{key}", f"object {key!r}", "objects"),
    }
    either = "|".join(map(re.escape, names[table]))
    return re.match(f"(?:{either})(?![0-9])", where) is not None


def _hex(key: Any) -> str:
    return key.hex() if type(key) is bytes else ""


@contextmanager
def _opened(database: Path) -> Iterator[sqlite3.Connection]:
    db = sqlite3.connect(database)
    try:
        yield db
    finally:
        db.close()


class _Table:
    """One table of an open store; rows are dicts of columns."""

    def __init__(self, db: sqlite3.Connection, name: str) -> None:
        self._db, self._name = db, name
        self._info = db.execute(f"PRAGMA table_info({name})").fetchall()
        self.columns = [row[1] for row in self._info]
        self._nullable = {row[1] for row in self._info if not row[3] and not row[5]}
        self._keys = [row[1] for row in self._info if row[5]]
        self._unique = {*self._keys}
        for index in db.execute(f"PRAGMA index_list({name})").fetchall():
            if index[2]:
                columns = db.execute(f"PRAGMA index_info({index[1]})")
                self._unique.update(row[2] for row in columns)

    def make(
        self, change: Change, part: float, leave: Collection[Any]
    ) -> list[Any] | None:
        rows = [row for row in self._rows(part) if self._first_key(row) not in leave]
        if change.how == "deleted":
            return self._delete(rows[0])
        if change.how == "duplicated":
            return self._duplicate(rows[0])
        one, other = next(
            (two for two in pairwise(rows) if self._matter(change, *two)),
            (rows[0], None),
        )
        return self._change(change, one, other)

    def _change(
        self, change: Change, one: dict[str, Any], other: dict[str, Any] | None
    ) -> list[Any] | None:
        column, value = change.column, one[change.column]
        if change.how == "changed":
            try:
                return self._set(column, one, _other(value))
            except sqlite3.IntegrityError:
                return self._set(column, one, _far(value))
        if change.how == "swapped":
            return None if other is None else self._swap(column, one, other)
        empty = None if column in self._nullable else type(value)()
        new = {
            "emptied": empty,
            "retyped": 7 if type(value) is bytes else b"7",
            "copied": value if other is None else other[column],
        }[change.how]
        return None if new == value else self._set(column, one, new)

    def _rows(self, part: float) -> list[dict[str, Any]]:
        (count,) = self._db.execute(f"SELECT count(*) FROM {self._name}").fetchone()
        order = TABLES[self._name]
        query = f"SELECT * FROM {self._name} ORDER BY {order} LIMIT 400 OFFSET ?"
        rows = self._db.execute(query, [int(count * part)]).fetchall()
        return [dict(zip(self.columns, row, strict=True)) for row in rows]

    @staticmethod
    def _matter(change: Change, one: dict[str, Any], other: dict[str, Any]) -> bool:
        """Return whether the change makes a difference to the first of two rows."""
        value = one[change.column]
        nothing = (None, 0, "", b"") if change.how == "emptied" else (None,)
        return value not in nothing and value != other[change.column]

    def _first_key(self, row: dict[str, Any]) -> Any:
        return row[TABLES[self._name].split(",")[0]]

    def _set(self, column: str, row: dict[str, Any], value: Any) -> list[Any]:
        where = " AND ".join(f"{key} = ?" for key in self._keys)
        query = f"UPDATE {self._name} SET {column} = ? WHERE {where}"
        done = self._db.execute(query, [value, *(row[key] for key in self._keys)])
        assert done.rowcount == 1
        return [self._first_key(row), self._first_key({**row, column: value})]

    def _swap(
        self, column: str, one: dict[str, Any], other: dict[str, Any]
    ) -> list[Any]:
        away = {**one, column: _far(one[column])}
        self._set(column, one, away[column])
        self._set(column, other, one[column])
        self._set(column, away if column in self._keys else one, other[column])
        return [self._first_key(one), self._first_key(other)]

    def _delete(self, row: dict[str, Any]) -> list[Any]:
        where = " AND ".join(f"{key} = ?" for key in self._keys)
        query = f"DELETE FROM {self._name} WHERE {where}"
        self._db.execute(query, [row[key] for key in self._keys])
        return [self._first_key(row)]

    def _duplicate(self, row: dict[str, Any]) -> list[Any]:
        copy = {
            column: None
            if column in self._unique & self._nullable
            else _far(value)
            if column in self._unique
            else value
            for column, value in row.items()
        }
        marks = ",".join("?" * len(copy))
        query = f"INSERT INTO {self._name} VALUES ({marks})"
        self._db.execute(query, [*copy.values()])
        return [self._first_key(copy)]


def _other(value: Any) -> Any:
    """Return a value that is nearly the same."""
    if value is None:
        return 7
    if isinstance(value, int):
        return value + 1
    half = len(value) // 2
    if isinstance(value, bytes):
        return value[:half] + bytes([value[half] ^ 1]) + value[half + 1 :]
    return value[:half] + ("y" if value[half] == "x" else "x") + value[half + 1 :]


def _far(value: Any) -> Any:
    """Return a value that no other row has."""
    return 1 << 40 if isinstance(value, int) else _other(value)
