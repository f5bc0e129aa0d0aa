"""Whoever has all that is kept cannot tell whether a guess at a redacted value holds.

The attacker has the entry, the receipt that opens everything, what is unsealed from the
vault, byte for byte, and knows the exchange but for one value, of which few are
possible. Each guess makes the leaves that it would have had: the member, its
containers, the decoded, raw and compressed body, pieces, target, what a protocol read.
Each run of bytes that is kept is tried as a salt, and as the secret, of each of them
(of a value over 4 KiB, each salt that is kept). So that the attack is known to work, it
is shown to find the value as soon as the salt of any such leaf, or the secret, is kept.
"""

import gzip
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import gettempdir
from typing import Any, NamedTuple

import pytest
import zstandard

from auditlog.capture.body import Body
from auditlog.capture.exchange import Exchange
from auditlog.capture.protocols.registry import Protocols
from auditlog.core.commitment import leaf_salt, salts
from auditlog.core.opening import content_of
from auditlog.core.pieces import TEXT, frame
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import format_id, parse_entry
from auditlog.core.verify import verify_receipt
from auditlog.log.check import check_log
from auditlog.log.content import pack, unpack, verify_content
from auditlog.log.description import Described, Describer
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.log.runtime import Runtime
from auditlog.storage.spill import SpillDirectory
from tests.log.builders import ORIGIN, config_of, exchange
from tests.log.redactions import WordRedaction

Make = Callable[[bytes], Exchange]
Leaves = list[tuple[str, bytes]]

PIN = b"493817"
GUESSES = [b"000000", b"493816", PIN, b"493818", b"938174"]
DEPTH = 2
COMPRESSOR = zstandard.ZstdCompressor(level=1)
DESCRIBER = Describer(ORIGIN, bytes(16), depth=DEPTH)
MIB = 1 << 20
LONG = 4096
SPILLS = SpillDirectory(Path(gettempdir()), 1 << 30)
RAW = ("request", "response")


class Known(NamedTuple):
    """What the attacker has."""

    salts: set[bytes]
    """All that may be one."""
    likely: set[bytes]
    """Those that are one."""
    secrets: set[bytes]
    hashes: set[bytes]
    values: list[bytes]


def known(described: Described, *more: bytes) -> Known:
    """Return what is kept of a decision, and more bytes."""
    kept = [*kept_of(described), *more]
    halves, wholes = (
        {one[at : at + size] for one in kept for at in range(len(one) + 1 - size)}
        for size in (16, 32)
    )
    leaves = verify_content(parse_entry(described.entry), described.content)
    likely = {described.content.first_salt, *(leaf.salt for leaf in leaves)}
    likely.update(one for one in more if len(one) == 16)
    return Known(halves, likely - {b""}, wholes, wholes, kept)


def kept_of(described: Described) -> list[bytes]:
    """Return all that is kept: entry, plaintext, and what of it decompresses."""
    plaintext = pack(described.content, COMPRESSOR)
    content = unpack(plaintext)
    entry = parse_entry(described.entry)
    values = [part.value for part in content.parts if len(part.value) < LONG]
    return [plaintext, described.entry, content_of(entry).digest, *values]


def confirmed(guess: Leaves, has: Known) -> bool:
    """Return whether a leaf of a guess is one whose hash is kept."""
    for path, value in guess:
        if sha256(value).digest() in has.hashes or value in has.values:
            return True
        short = len(value) < LONG
        for salt in has.salts if short else has.likely:
            if leaf_of(salt, path, value) in has.hashes:
                return True
        if short and path in RAW and _by_secret(RAW.index(path), path, value, has):
            return True
    return False


def _by_secret(at: int, path: str, value: bytes, has: Known) -> bool:
    return any(
        leaf_of(leaf_salt(secret, at), path, value) in has.hashes
        for secret in has.secrets
    )


def leaf_of(salt: bytes, path: str, value: bytes) -> bytes:
    """Return the hash of a leaf, by FORMATS §2."""
    named = path.encode()
    return sha256(b"\0%b%b%b%b" % (salt, len(named).to_bytes(2), named, value)).digest()


# --- exchanges that hold a value in one place each ------------------------------------


def _exchange(asked: bytes, **fields: Any) -> Exchange:
    secret = sha256(b"secret" + fields.pop("kind", b"")).digest()
    known = {"limit": fields.pop("limit", MIB), "coding": fields.pop("coding", None)}
    body = Body(secret, 0, spills=SPILLS, framed=fields.pop("framed", False), **known)
    parts = fields.pop("parts", None) or [asked]
    for part in parts:
        body.feed(part)
    body.state = "complete"
    return exchange(0, request=body, secret=secret, **fields)


def _json(pin: bytes) -> bytes:
    return b'{"who": {"name": "Ada", "pin": "%b"}, "n": 1}' % pin


def _chat(pin: bytes) -> bytes:
    return b'{"model":"m-%b","messages":[{"role":"user","content":"?"}]}' % pin


KINDS: dict[str, Make] = {
    "json": lambda pin: _exchange(_json(pin)),
    "bare": _exchange,
    "gzip": lambda pin: _exchange(gzip.compress(_json(pin), mtime=0), coding="gzip"),
    "form": lambda pin: _exchange(
        b"a=1&pin=%b" % pin, request_type="application/x-www-form-urlencoded"
    ),
    "events": lambda pin: _exchange(
        b"data: 1\n\ndata: %b\n\n" % pin, request_type="text/event-stream"
    ),
    "messages": lambda pin: _exchange(
        b"",
        parts=[frame(0, TEXT, b"hi"), frame(1, TEXT, pin)],
        framed=True,
        request_type=None,
    ),
    "chunks": lambda pin: _exchange(
        b"x" * (MIB + 9) + pin, request_type="text/plain", limit=2 * MIB
    ),
    "capped": lambda pin: _exchange(b"x" * (MIB + 9) + pin, request_type="text/plain"),
    "not kept": lambda pin: _exchange(_json(pin), keep=False),
    "target": lambda pin: _exchange(b"{}", target=b"/s?pin=%b" % pin),
    "annotation": lambda pin: _exchange(
        b"{}", context={"annotations": b'{"pin":"%b"}' % pin}
    ),
    "method": lambda pin: _exchange(b"{}", method=f"X{pin.decode()}"),
    "protocol": lambda pin: _exchange(
        _chat(pin),
        target=b"/v1/chat/completions",
        response=b'{"object":"chat.completion","model":"m","choices":[]}',
        protocols=Protocols(),
    ),
}
REDACTIONS: dict[str, Callable[[], WordRedaction]] = {
    "redacted": lambda: WordRedaction(*GUESSES),
    "withheld": lambda: WordRedaction(
        *GUESSES, withhold=["request", "target", "annotations", "request.method"]
    ),
}


def truth(kind: str, pin: bytes) -> Leaves:
    """Return the leaves that the exchange has with this value, and not without it."""
    # The attacker knows the bytes of what was not kept, too.
    make = KINDS["chunks" if kind == "capped" else kind]
    with_it, without = _leaves(make(pin)), _leaves(make(b"######"))
    return [leaf for leaf in with_it if leaf not in without]


def _leaves(one: Exchange) -> Leaves:
    described = DESCRIBER.describe(one)
    found = verify_content(parse_entry(described.entry), described.content)
    whole = {"request": one.request.kept(), "response": one.response.kept()}
    return [
        (leaf.path, whole[leaf.path] if leaf.value is None else leaf.value)
        for leaf in found
    ]


@pytest.mark.parametrize("how", REDACTIONS)
@pytest.mark.parametrize("kind", KINDS)
def test_no_guess_is_confirmed_by_anything_that_is_kept(kind: str, how: str) -> None:
    one = KINDS[kind](PIN)
    one.redaction = REDACTIONS[how]()
    has = known(DESCRIBER.describe(one))
    assert not any(PIN in value for value in has.values)
    for guess in GUESSES:
        leaves = truth(kind, guess)
        assert leaves, "the value makes a difference"
        assert not confirmed(leaves, has)


@pytest.mark.parametrize("kind", KINDS)
def test_the_attack_finds_the_value_by_the_salt_of_any_leaf_that_holds_it(
    kind: str,
) -> None:
    one = KINDS[kind](PIN)
    one.redaction = REDACTIONS["redacted"]()
    described = DESCRIBER.describe(one)
    assert described.content.salts is not None
    every = salts(one.secret, len(described.content.salts.leaves))[1:]
    has = known(described)
    for leaf in truth(kind, PIN):
        if leaf[0] == "context/model":
            continue  # of which there is none: a protocol says what it read of the copy
        tried = [has._replace(salts={salt}, likely={salt}) for salt in every]
        found = [confirmed([leaf], one) for one in tried]
        assert found.count(True) == 1, leaf[0]
    wrong = truth(kind, GUESSES[1])
    assert not confirmed(wrong, has._replace(salts={*every}, likely={*every}))


@pytest.mark.parametrize("kind", ["json", "gzip", "messages", "not kept"])
def test_the_attack_finds_the_value_by_the_secret(kind: str) -> None:
    one = KINDS[kind](PIN)
    one.redaction = REDACTIONS["redacted"]()
    has = known(DESCRIBER.describe(one), one.secret)
    assert confirmed(truth(kind, PIN), has)
    assert not confirmed(truth(kind, GUESSES[1]), has)


def test_without_redaction_all_of_it_can_be_confirmed() -> None:
    """Which is what a commitment is for: the attack is the auditor's check."""
    has = known(DESCRIBER.describe(KINDS["json"](PIN)))
    assert confirmed(truth("json", PIN), has)
    assert not confirmed(truth("json", GUESSES[1]), has)


def test_nor_by_what_a_log_hands_out(tmp_path: Path) -> None:
    """The receipt that opens everything, and what is unsealed from the vault."""
    config = config_of(tmp_path / "audit")
    runtime, ids = Runtime(config), {}
    for kind, make in KINDS.items():
        one = make(PIN)
        one.redaction = REDACTIONS["redacted"]()
        one.sequence = runtime.open(one.id, one.time)
        runtime.submit(one)
        ids[kind] = format_id(one.id)
    runtime.stop()
    with open_log(config.dir) as log:
        for kind, id_ in ids.items():
            receipt = Reader(log).receipt(id_, open_all=True)
            assert verify_receipt(receipt, log.policy()).disclosed
            has = _handed_out(Reader(log), id_, receipt)
            assert not confirmed(truth(kind, PIN), has), kind
            assert not any(PIN in value for value in has.values)
        assert (check_log(log).problems, check_log(log).unchecked) == ((), ())


def _handed_out(reader: Reader, id_: str, data: bytes) -> Known:
    view, content = reader.decision(id_), reader.content(id_)
    receipt = parse_receipt(data)
    assert view.entry is not None
    assert view.row is not None
    assert receipt.opening is not None
    assert receipt.secret is None
    opening = [receipt.opening.salt, *receipt.opening.hashes]
    salted = [one.salt for one in receipt.disclosures]
    shown = [one.value for one in receipt.disclosures if len(one.value) < LONG]
    text = data if len(data) < 16 * LONG else b""
    described = Described(view.entry, view.row, content)
    has = known(described, text, *opening, *salted, *shown)
    assert set(receipt.opening.hashes) <= has.hashes
    return has
