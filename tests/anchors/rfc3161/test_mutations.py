"""Evidence under random mutation: never an earlier time, never another party.

``MUTATIONS=100000`` makes as many, ``MUTATIONS_SEED`` others. Keys are new each time:
a failure shows the evidence and the trust file with which it came.
"""

import base64
import copy
import os
import random
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from auditlog.anchors.attestation import Bound
from auditlog.anchors.checking import check_attestation
from auditlog.anchors.rfc3161.loading import parse_certificate
from auditlog.anchors.rfc3161.query import parse_reply
from auditlog.anchors.rfc3161.token import format_response
from auditlog.core.errors import AuditLogError, MalformedError, VerificationError
from tests.anchors.rfc3161.stamping import (
    DAY,
    DIGEST,
    NOON,
    Clock,
    evidence_of,
    make_authority,
    reply_with,
    token_of,
    trust_in,
)

COUNT = int(os.environ.get("MUTATIONS", "2000"))
SEED = int(os.environ.get("MUTATIONS_SEED", "3"))
OTHER_DIGEST = bytes(32)


class World:
    """An authority and an impostor, their tokens of two digests, and a trust file."""

    def __init__(self) -> None:
        clock = Clock(NOON - DAY)
        self.authority = make_authority(clock, start=NOON - 9 * DAY)
        other = make_authority(clock, start=NOON - 9 * DAY)
        old = [self.authority.crl("issuing")]
        sources = [
            evidence_of(self.authority, token_of(self.authority, OTHER_DIGEST)),
            evidence_of(other, token_of(other)),
        ]
        clock.now = NOON + timedelta(microseconds=123_400)
        self.token = token_of(self.authority)
        crls = [self.authority.crl(name) for name in ("root", "issuing")]
        self.evidence = evidence_of(self.authority, self.token, crls=crls + old)
        self.sources = [
            self.evidence,
            evidence_of(self.authority, self.token),
            evidence_of(other, token_of(other), crls=[other.crl("root")]),
            *sources,
        ]
        party = trust_in(self.authority).authorities[0]
        rival = trust_in(make_authority(clock)).authorities[0]
        self.trust = trust_in(rival, party)
        self.bound = self.checked(self.evidence)

    def checked(self, evidence: Any) -> Bound:
        return check_attestation("rfc3161", DIGEST, evidence, self.trust)


@pytest.fixture(scope="module")
def world() -> World:
    return World()


# --- bytes ----------------------------------------------------------------------------


def _bit(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _byte(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return (
        data[:at]
        + chance.choice(b"\0\1\x30\x31\x80\xa0\xff0Z").to_bytes()
        + data[at + 1 :]
    )


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randint(1, 3)) + data[at:]


def _cut(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice([1, 1, 2, 4, 32, 1000]) :]


# --- DER, with lengths that still fit -------------------------------------------------

Node = tuple[int, Any]
"""A tag with bytes, or with a list of nodes."""


def _read(data: bytes) -> list[Node]:
    """Take DER apart, into wrapped values too, without the help of the code tested."""
    nodes: list[Node] = []
    at = 0
    while at < len(data):
        tag, size, start = data[at], data[at + 1], at + 2
        if size >= 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[at + 2 : start], "big")
        content = data[start : start + size]
        if len(content) != size:
            raise ValueError
        at = start + size
        inner: Any = content
        if tag & 0x20 or tag == 4:
            try:
                inner = _read(content)
            except (IndexError, ValueError):
                if tag & 0x20:
                    raise
        nodes.append((tag, inner))
    return nodes


def _write(nodes: list[Node]) -> bytes:
    out = b""
    for tag, inner in nodes:
        content = inner if isinstance(inner, bytes) else _write(inner)
        size = len(content)
        digits = size.to_bytes((size.bit_length() + 7) // 8, "big")
        length = bytes([size]) if size < 0x80 else bytes([0x80 | len(digits)]) + digits
        out += bytes([tag]) + length + content
    return out


def _lists(nodes: list[Node]) -> list[list[Node]]:
    """All lists of nodes in a tree, itself first."""
    found = [nodes]
    for _, inner in nodes:
        if isinstance(inner, list):
            found += _lists(inner)
    return found


def _changed_der(chance: random.Random, data: bytes, other: bytes) -> bytes:
    try:
        tree, source = _read(data), _read(other)
    except (IndexError, ValueError):
        return _bit(chance, data)
    nodes = chance.choice([one for one in _lists(tree) if one])
    at = chance.randrange(len(nodes))
    tag, inner = nodes[at]
    match chance.randrange(8):
        case 0:
            del nodes[at]
        case 1:
            nodes.insert(at, nodes[at])
        case 2:
            chance.shuffle(nodes)
        case 3:
            nodes[at] = chance.choice(chance.choice([o for o in _lists(source) if o]))
        case 4:
            nodes[at] = (chance.choice([2, 4, 5, 6, 0x30, 0x31, 0xA0, 0xA1]), inner)
        case 5:
            nodes.append((5, b""))
        case 6 if isinstance(inner, bytes):
            nodes[at] = (tag, b"\0" + inner)
        case _:
            changed = inner if isinstance(inner, bytes) else _write(inner)
            nodes[at] = (tag, _bit(chance, changed) if changed else b"\0")
    return _write(tree)


# --- evidence -------------------------------------------------------------------------

Change = Callable[[random.Random, dict[str, Any], dict[str, Any]], None]


def _of_response(chance: random.Random, fields: Any, other: Any) -> None:
    data = base64.b64decode(fields["response"])
    if chance.random() < 0.6:
        data = _changed_der(chance, data, base64.b64decode(other["response"]))
    else:
        data = chance.choice([_bit, _byte, _insert, _cut])(chance, data)
    fields["response"] = base64.b64encode(data).decode()


def _of_lists(chance: random.Random, fields: Any, other: Any) -> None:
    lists = fields["crls"]
    match chance.randrange(5):
        case 0 if lists:
            del lists[chance.randrange(len(lists))]
        case 1 if lists:
            lists.append(chance.choice(lists))
        case 2:
            fields["crls"] = list(other["crls"])
        case 3 if lists:
            at = chance.randrange(len(lists))
            data = base64.b64decode(lists[at])
            changed = chance.choice(
                [_changed_der(chance, data, data), _bit(chance, data)]
            )
            lists[at] = base64.b64encode(changed).decode()
        case _:
            lists.append(chance.choice([None, "", "AAAA", [], *other["crls"]]))


def _of_fields(chance: random.Random, fields: Any, other: Any) -> None:
    name = chance.choice(["crls", "response", "batch", "chain"])
    match chance.randrange(4):
        case 0:
            fields.pop(name, None)
        case 1:
            fields[name] = chance.choice([None, "", [], {}, 7, True, "A=", [[]]])
        case 2:
            fields[name] = copy.deepcopy(other.get(name))
        case _:
            text = fields["response"]
            at = chance.randrange(len(text))
            fields["response"] = text[:at] + chance.choice("=\n A-é") + text[at:]


CHANGES: list[Change] = [
    _of_response,
    _of_response,
    _of_response,
    _of_lists,
    _of_fields,
]


def test_never_an_earlier_time_or_another_party(world: World) -> None:
    chance = random.Random(SEED)
    ends: Counter[str] = Counter()
    for number in range(COUNT):
        fields = {**world.evidence, "crls": list(world.evidence["crls"])}
        for _ in range(chance.choice([1, 1, 1, 2, 3])):
            try:
                chance.choice(CHANGES)(chance, fields, chance.choice(world.sources))
            except (AttributeError, LookupError, TypeError, ValueError):
                break  # an earlier change left nothing to change here
        note = f"mutation {number} of seed {SEED}: {fields!r} under {world.trust!r}"
        try:
            bound = world.checked(fields)
        except (MalformedError, VerificationError) as error:
            ends[type(error).__name__] += 1
            continue
        except Exception as error:
            error.add_note(note)
            raise
        ends["accepted"] += 1
        assert bound[:3] == world.bound[:3], note
        response = fields["response"]
        assert response == world.evidence["response"], note
        assert set(fields["crls"]) <= set(world.evidence["crls"]), note
    assert {"MalformedError", "VerificationError", "UntrustedError"} <= set(ends)
    assert ends["accepted"] > COUNT / 100
    print(f"{dict(ends)} of {COUNT}")


def test_replies_of_an_authority_give_a_token_or_our_error(world: World) -> None:
    """What an anchor reads before anything of it is verified."""
    chance = random.Random(SEED)
    honest = reply_with(world.token)
    ends: Counter[str] = Counter()
    for number in range(COUNT // 2):
        if chance.random() < 0.6:
            data = _changed_der(chance, honest, honest)
        else:
            data = chance.choice([_bit, _byte, _insert, _cut])(chance, honest)
        try:
            token = parse_reply(data)
            ends["token"] += 1
            evidence = {
                "crls": [],
                "response": base64.b64encode(
                    format_response(token, [world.authority.issuing.der])
                ).decode(),
            }
            assert world.checked(evidence)[:3] == world.bound[:3]
        except AuditLogError as error:
            ends[type(error).__name__] += 1
        except Exception as error:
            error.add_note(f"mutation {number} of seed {SEED}: {data.hex()}")
            raise
    assert {"MalformedError", "VerificationError", "token"} <= set(ends)


def test_what_the_library_only_warns_of_is_refused(world: World) -> None:
    ((tag, certificate),) = _read(world.authority.signer.der)
    body = certificate[0][1]
    assert body[1][0] == 2  # after the version, the serial number
    body[1] = (2, b"\x80")
    with pytest.raises(
        MalformedError, match=r"^expected an X\.509 certificate in DER$"
    ):
        parse_certificate(_write([(tag, certificate)]))
