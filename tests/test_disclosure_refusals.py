"""Every way to change what a receipt discloses, for every way in which bodies are cut.

An honest receipt opens two fields side by side. Whoever holds it changes one thing, and
the offline verifier, as a command, refuses it and says what it expected.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from auditlog.core.pieces import BINARY, TEXT, frame, split_body
from auditlog.core.record import canonical_json
from auditlog.verifier import main
from tests.receipts import Decision, MemoryLog, make_decision

LARGE = bytes(range(251)) * 4500
EVENTS = b"data: 1\n\ndata: 2\n\ndata: 3\n\n"
MESSAGES = b"".join(frame(n, (TEXT, BINARY)[n % 2], b"%d" % n) for n in range(3))
BATCH = b'{"instances":[{"age":41},{"age":17},{"age":30}]}'


class Kind(NamedTuple):
    """A way in which a body is cut."""

    split: str
    body: bytes
    first: str
    second: str


KINDS = {
    "json": Kind("json", b'{"age":41,"name":"Ada"}', "request/age", "request/name"),
    "batch": Kind("json", BATCH, "request/instances/0", "request/instances/1"),
    "sse": Kind("sse", EVENTS, "request#0", "request#1"),
    "ws": Kind("ws", MESSAGES, "request#0", "request#1"),
    "chunks": Kind("chunks", LARGE, "request#0", "request#1"),
}
Fields = list[dict[str, Any]]


def _decision(kind: Kind, number: int) -> Decision:
    leaves = split_body(kind.split, "request", kind.body, 1)
    assert leaves
    return make_decision(
        number,
        request=kind.body,
        response=b"",
        leaves=[*leaves, ("context/target", b"/")],
        split={"request": kind.split, "response": "none"},
    )


def _flip(text: str) -> str:
    data = bytearray(base64.b64decode(text))
    data[0] ^= 1
    return base64.b64encode(bytes(data)).decode()


def changed_salt(fields: Fields, _: Fields) -> None:
    fields[0]["salt"] = _flip(fields[0]["salt"])


def changed_value(fields: Fields, _: Fields) -> None:
    fields[0]["value"] = _flip(fields[0]["value"])


def longer_value(fields: Fields, _: Fields) -> None:
    data = base64.b64decode(fields[1]["value"])
    fields[1]["value"] = base64.b64encode(data + b" ").decode()


def changed_path(fields: Fields, _: Fields) -> None:
    mark = "#" if "#" in fields[0]["path"] else "/"
    fields[0]["path"] = fields[0]["path"].rpartition(mark)[0] + f"{mark}2"


def other_side(fields: Fields, _: Fields) -> None:
    fields[0]["path"] = fields[0]["path"].replace("request", "response")


def moved(fields: Fields, _: Fields) -> None:
    fields[1]["index"] += 1


def beyond(fields: Fields, _: Fields) -> None:
    fields[1]["index"] = 1 << 40


def _swap(fields: Fields, name: str) -> None:
    one, other = fields
    one[name], other[name] = other[name], one[name]


def swapped_values(fields: Fields, _: Fields) -> None:
    _swap(fields, "value")


def swapped_paths(fields: Fields, _: Fields) -> None:
    _swap(fields, "path")


def swapped_indices(fields: Fields, _: Fields) -> None:
    _swap(fields, "index")


def swapped_salts(fields: Fields, _: Fields) -> None:
    _swap(fields, "salt")


def repeated(fields: Fields, _: Fields) -> None:
    fields.append(dict(fields[0]))


def repeated_at_another_index(fields: Fields, _: Fields) -> None:
    fields[1] |= {name: fields[0][name] for name in ("path", "salt", "value")}


def repeated_by_another_path(fields: Fields, _: Fields) -> None:
    fields[1] |= {name: fields[0][name] for name in ("index", "salt", "value")}


def of_another_decision(fields: Fields, others: Fields) -> None:
    """The same value at the same path: only the salt is another."""
    fields[0] = others[0]


LEAF = "expected leaf {index} of the commitment, got another"
ONCE = "expected each index and each path to be disclosed once"
CHANGES: list[tuple[Callable[[Fields, Fields], None], int, str, int]] = [
    (changed_salt, 10, LEAF, 0),
    (changed_value, 10, LEAF, 0),
    (longer_value, 10, LEAF, 1),
    (changed_path, 10, LEAF, 0),
    (other_side, 10, LEAF, 0),
    (moved, 10, LEAF, 2),
    (beyond, 10, "as leaf 1099511627776 of", 1),
    (swapped_values, 10, LEAF, 0),
    (swapped_paths, 10, LEAF, 0),
    (swapped_indices, 10, LEAF, 1),
    (swapped_salts, 10, LEAF, 0),
    (repeated, 16, ONCE, 0),
    (repeated_at_another_index, 16, ONCE, 0),
    (repeated_by_another_path, 16, ONCE, 0),
    (of_another_decision, 10, LEAF, 0),
]


class Verifier:
    """The command, with a policy that believes the log."""

    def __init__(self, directory: Path, log: MemoryLog) -> None:
        self._file, self._policy = directory / "r.json", directory / "policy"
        self._policy.write_text(log.policy())

    def status(self, fields: dict[str, Any]) -> int:
        self._file.write_bytes(canonical_json(fields) + b"\n")
        return main([str(self._file), "--policy", str(self._policy)])


def _receipts(kind: Kind) -> tuple[MemoryLog, dict[str, Any], dict[str, Any]]:
    """Return a log and, as JSON, receipts of two decisions with the same content."""
    one, other = _decision(kind, 0), _decision(kind, 1)
    log = MemoryLog(entries=[one.entry, other.entry])
    first, second = (
        json.loads(log.receipt(decision, kind.first, kind.second))
        for decision in (one, other)
    )
    return log, first, second


@pytest.mark.parametrize("name", KINDS)
def test_it_verifies_as_it_was_handed_out(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, receipt, _ = _receipts(KINDS[name])
    verifier = Verifier(tmp_path, log)
    assert verifier.status(receipt) == 0
    assert "disclosures  2 of" in capsys.readouterr().out


@pytest.mark.parametrize("name", KINDS)
def test_the_order_in_the_file_says_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each says at which index it stands: listed otherwise, they prove the same."""
    log, receipt, _ = _receipts(KINDS[name])
    verifier = Verifier(tmp_path, log)
    verifier.status(receipt)
    checked = capsys.readouterr().out.partition("Disclosed:")[0]
    receipt["disclosures"].reverse()
    assert verifier.status(receipt) == 0
    assert capsys.readouterr().out.partition("Disclosed:")[0] == checked


@pytest.mark.parametrize("name", KINDS)
def test_each_change_is_refused_with_a_reason(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, _, _ = _receipts(KINDS[name])
    verifier = Verifier(tmp_path, log)
    for change, status, message, at in CHANGES:
        _, receipt, other = _receipts(KINDS[name])
        start = receipt["disclosures"][0]["index"]
        change(receipt["disclosures"], other["disclosures"])
        assert verifier.status(receipt) == status, change
        said = capsys.readouterr().out
        assert message.format(index=start + at) in said, (change, said)
        assert ("NOT VERIFIED" if status == 10 else "MALFORMED") in said


@pytest.mark.parametrize("name", KINDS)
def test_a_commitment_with_other_hashes_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    log, receipt, other = _receipts(KINDS[name])
    verifier = Verifier(tmp_path, log)
    hashes = receipt["commitment"]["hashes"]
    start = receipt["disclosures"][0]["index"]
    hashes[start], hashes[start + 1] = hashes[start + 1], hashes[start]
    swapped_indices(receipt["disclosures"], [])
    assert verifier.status(receipt) == 10
    assert (
        "expected the commitment of the entry, got another" in capsys.readouterr().out
    )
    other["entry"] = receipt["entry"]
    assert verifier.status(other) == 10
