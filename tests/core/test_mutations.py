"""Receipts under random mutation: what is still accepted says nothing that is not so.

``MUTATIONS=100000`` makes as many, ``MUTATIONS_SEED`` others; a failure names the seed.
Of a receipt as issued no changed byte is accepted. A receipt without checksum may be
spelled otherwise or tell less, so there every fact of the verdict is held to the log.
"""

import base64
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from hashlib import sha256
from typing import Any

import pytest

from auditlog.core.checkpoint import Policy, parse_policy
from auditlog.core.commitment import members
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.merkle import leaf_hash, nodes_of, tree_root
from auditlog.core.note import COSIGNATURE_ED25519
from auditlog.core.pieces import BINARY, TEXT, frame, split_body
from auditlog.core.record import parse_entry
from auditlog.core.verify import Verdict, verify_receipt
from tests.receipts import Decision, MemoryLog, make_decision

COUNT = int(os.environ.get("MUTATIONS", "3000"))
SEED = int(os.environ.get("MUTATIONS_SEED", "3"))
Mutation = Callable[[random.Random, bytes], bytes]


class World:
    """A log of decisions, everything that is true of it, and receipts for it."""

    def __init__(self) -> None:
        self.log = MemoryLog(witness_types=(COSIGNATURE_ED25519,) * 2)
        self.decisions = [_decision(number) for number in range(11)]
        self.log.add(*(decision.entry for decision in self.decisions))
        self.policy: Policy = parse_policy(self.log.policy("any"))
        self.issued = [*self._receipts({})]
        self.plain = [*self._receipts({"extra": None})]

    def _receipts(self, proof: dict[str, Any]) -> list[bytes]:
        found = []
        for size in (7, 11):
            for number in (0, 3, 6):
                decision = self.decisions[number]
                given = self.log.proof(number, size, **proof)
                paths = [path for path, _ in decision.leaves]
                found += [
                    self.log.receipt(decision, proof=given),
                    self.log.receipt(decision, *paths[3:], proof=given),
                    self.log.receipt(decision, *paths, full=True, proof=given),
                ]
        return found

    def hold(self, verdict: Verdict) -> None:
        """Hold each fact of a verdict against the log itself."""
        leaves = [leaf_hash(entry) for entry in self.log.entries[: verdict.size]]
        assert verdict.origin == self.log.origin
        assert verdict.root == tree_root(len(leaves), nodes_of(leaves))
        assert (len(leaves), leaves[verdict.index]) == (verdict.size, verdict.leaf)
        decision = self.decisions[verdict.index]
        assert parse_entry(decision.entry).id.hex() == verdict.id.replace("-", "")
        assert set(verdict.disclosed) <= set(decision.leaves)
        keys = {signer.verifier.key for signer in self.log.signers}
        assert {signer.split(" ")[0] for signer in verdict.signers} <= keys
        assert {one.split(",")[0] for one in verdict.witnesses} <= {"w0", "w1"}
        assert all("2026-11-18" in one for one in verdict.witnesses)


STREAM = b"data: 1\n\ndata: 2\r\n\r\n"
SESSION = frame(0, TEXT, b"hello") + frame(2, BINARY, b"\0")
RESPONSES = {3: ("sse", STREAM), 6: ("ws", SESSION)}


def _decision(number: int) -> Decision:
    request = b'{"age": %d, "income": [1, %d], "name": "Ada"}' % (number, number)
    split, response = RESPONSES.get(number, ("json", b'{"decision":"approve"}'))
    leaves = [
        *(members("request", request, 1) or ()),
        *(split_body(split, "response", response, 1) or ()),
        ("context/target", b"/score"),
    ]
    return make_decision(
        number, request, response, leaves=leaves, split={"response": split}
    )


@pytest.fixture(scope="module")
def world() -> World:
    return World()


# --- bytes ----------------------------------------------------------------------------


def _bit(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _byte(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.choice(b'\0\n "+/0=A\\_{\xff').to_bytes() + data[at + 1 :]


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randint(1, 3)) + data[at:]


def _cut(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice([1, 1, 2, 4, 32, 1000]) :]


def _repeat(chance: random.Random, data: bytes) -> bytes:
    at, size = chance.randrange(len(data)), chance.choice([1, 4, 44, 200])
    return data[: at + size] + data[at:]


def _exchange(chance: random.Random, data: bytes) -> bytes:
    one, other = sorted(chance.sample(range(len(data)), 2))
    size = min(chance.choice([1, 4, 43, 200]), other - one)
    first, second = data[one : one + size], data[other : other + size]
    return data[:one] + second + data[one + size : other] + first + data[other + size :]


OF_BYTES: list[Mutation] = [_bit, _byte, _insert, _cut, _repeat, _exchange]


def _verdict(data: bytes, policy: Policy) -> Verdict | None:
    try:
        return verify_receipt(data, policy)
    except (MalformedError, VerificationError):
        return None


def test_no_changed_byte_of_an_issued_receipt_is_accepted(world: World) -> None:
    chance = random.Random(SEED)
    for number in range(COUNT // 2):
        data = chance.choice(world.issued)
        mutant = chance.choice(OF_BYTES)(chance, data)
        if mutant not in world.issued:
            verdict = _verdict(mutant, world.policy)
            assert verdict is None, f"mutation {number} of seed {SEED}: {mutant!r}"


# --- JSON -----------------------------------------------------------------------------


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Return the paths of all values inside a JSON value."""
    keys: Any = value if isinstance(value, dict) else range(len(value))
    if not isinstance(value, dict | list):
        return []
    return [
        place
        for key in keys
        for place in [(*path, key), *_places(value[key], (*path, key))]
    ]


def _reached(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _mutated_text(chance: random.Random, text: str) -> str:
    """Change text as somebody would who knows notes, proofs and base64."""
    lines = text.split("\n")
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    line = lines[at]
    with_lines = {
        "drop": [*lines[:at], *lines[at + 1 :]],
        "twice": [*lines[: at + 1], *lines[at:]],
        "move": [*lines[:at], *lines[at + 1 :], line],
        "other": [*lines[:at], lines[other], *lines[at + 1 :]],
        "empty": [*lines[:at], "", *lines[at:]],
        "count": [*lines[:at], _counted(chance, line), *lines[at + 1 :]],
        "spelled": [*lines[:at], _respelled(chance, line), *lines[at + 1 :]],
    }
    return "\n".join(chance.choice([*with_lines.values()]))


def _counted(chance: random.Random, line: str) -> str:
    """Change a decimal, if the line ends in one."""
    head, _, last = line.rpartition(" ")
    if not last.isdecimal():
        return line[1:] + line[:1]
    number = chance.choice([f"0{last}", f"{int(last) + 1}", f"{int(last) ^ 1}", "0"])
    return f"{head} {number}" if head else number


def _respelled(chance: random.Random, line: str) -> str:
    """Write the last word of a line in other base64, or with other bytes in it."""
    head, _, last = line.rpartition(" ")
    try:
        data = bytearray(base64.b64decode(last))
    except ValueError:
        return line + chance.choice([" ", "\r", "="])
    changed = bytes([*data[:-1], data[-1] ^ 1]) if data else b"\0"
    new = chance.choice(
        [
            base64.urlsafe_b64encode(data).decode(),
            last.rstrip("="),
            f"{last}=",
            last.replace("A", "B", 1),
            base64.b64encode(changed).decode(),
            base64.b64encode(data[1:] + data[:1]).decode(),
        ]
    )
    return f"{head} {new}" if head else new


def _mutated_value(chance: random.Random, value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return chance.choice([0, "", []])
    if isinstance(value, int):
        return chance.choice([value + 1, value - 1, 0, -1, float(value), f"{value}"])
    if isinstance(value, str):
        return chance.choice([_mutated_text(chance, value), value[::-1], None, ""])
    if isinstance(value, list) and len(value) > 1:
        at = chance.randrange(len(value))
        choices = [value[:at] + value[at + 1 :], value[at:] + value[:at]]
        return chance.choice([*choices, [*value, value[at]], value[::-1], []])
    return chance.choice([[], {}, None, [value]])


def _change(chance: random.Random, fields: Any, _: Any) -> None:
    *path, last = chance.choice(_places(fields))
    holder = _reached(fields, tuple(path))
    holder[last] = _mutated_value(chance, holder[last])


def _remove(chance: random.Random, fields: Any, _: Any) -> None:
    *path, last = chance.choice(_places(fields))
    del _reached(fields, tuple(path))[last]


def _add(chance: random.Random, fields: Any, other: Any) -> None:
    name = chance.choice([*other, "extra", "verdict", "policy", "Entry"])
    fields[name] = other.get(name, "x")


def _take(chance: random.Random, fields: Any, other: Any) -> None:
    """Take a part of another receipt."""
    name = chance.choice([*other])
    fields[name] = other[name]


def _trade_inside(chance: random.Random, fields: Any, other: Any) -> None:
    """Take a value from the same place in another receipt, however deep."""
    place = chance.choice(_places(other))
    try:
        _reached(fields, place[:-1])[place[-1]] = _reached(other, place)
    except (IndexError, KeyError, TypeError):
        _take(chance, fields, other)


def _unchecked(chance: random.Random, fields: Any, _: Any) -> None:
    """Take the checksum out, or put in one for what now stands there."""
    head, _, note = fields["proof"].partition("\n\n")
    lines = [line for line in head.split("\n") if not line.startswith("extra ")]
    if chance.random() < 0.5:
        digest = base64.b64encode(sha256(note.encode()).digest()).decode()
        lines.insert(1, f"extra {digest}")
    fields["proof"] = "\n".join(lines) + "\n\n" + note


OF_FIELDS = [_change, _change, _remove, _add, _take, _trade_inside, _unchecked]


def spelled(chance: random.Random, fields: Any) -> bytes:
    text = json.dumps(
        fields,
        ensure_ascii=chance.random() < 0.2,
        indent=chance.choice([None, None, None, 1]),
        separators=(",", ":"),
        sort_keys=chance.random() < 0.9,
    )
    if chance.random() < 0.05:  # a name twice
        at = chance.choice([*fields] or ["x"])
        text = f'{{"{at}":{json.dumps(fields.get(at))},{text[1:]}'
    return text.encode() + chance.choice([b"\n", b"\n", b"\n", b""])


def test_whatever_is_still_accepted_is_true(world: World) -> None:
    chance = random.Random(SEED)
    ends: Counter[str] = Counter()
    for number in range(COUNT - COUNT // 2):
        source = chance.choice([world.issued, world.plain])
        fields = json.loads(chance.choice(source))
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            try:
                other = json.loads(chance.choice(world.issued + world.plain))
                chance.choice(OF_FIELDS)(chance, fields, other)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                break  # an earlier change left nothing to change here
        data = spelled(chance, fields)
        try:
            verdict = verify_receipt(data, world.policy)
        except (MalformedError, VerificationError) as error:
            ends[type(error).__name__] += 1
            continue
        ends["accepted"] += 1
        try:
            world.hold(verdict)
        except AssertionError as error:
            error.add_note(f"mutation {number} of seed {SEED}: {data!r}")
            raise
    assert {"MalformedError", "VerificationError", "accepted"} <= set(ends)
    print(f"{dict(ends)} of {COUNT}")
