"""Proofs: one spelling, bounds, and the library's opinion of every byte."""

import io
import json
import random
import time
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from opentimestamps.core.notary import (
    BitcoinBlockHeaderAttestation,
    PendingAttestation,
)
from opentimestamps.core.serialize import (
    BytesDeserializationContext,
    DeserializationError,
)
from opentimestamps.core.timestamp import DetachedTimestampFile, Timestamp

from auditlog.anchors.attestation import TAG, anchor_digest
from auditlog.anchors.ots.proof import (
    BITCOIN,
    MAX_DEPTH,
    MAX_MESSAGE,
    MAX_PROOF,
    MAX_WAYS,
    PENDING,
    SHA256,
    End,
    Operation,
    Way,
    append,
    extend,
    follow,
    format_detached,
    format_proof,
    parse_canonical,
    parse_proof,
)
from auditlog.core.errors import MalformedError
from tests.anchors.ots.calendar import written

REAL = json.loads(Path(__file__).with_name("real_proofs.json").read_text())
DIGEST = bytes(range(32))
UNKNOWN = bytes(8)
BLOCK = b"\x00" + BITCOIN + b"\x01\x07"  # of height 7
PROMISE = b"\x00" + PENDING + b"\x04\x03a:b"

Found = set[tuple[bytes, bytes, int, bytes]]
"""Message, tag, height and payload of each attestation."""


def ours(ways: Iterable[Way], message: bytes = DIGEST) -> Found:
    return {(follow(way.operations, message), *way.end) for way in ways}


def read_by_library(data: bytes, message: bytes = DIGEST) -> Any:
    """Return the timestamp, or None where the library refuses it."""
    context = BytesDeserializationContext(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that reverse may be taken out
            timestamp = Timestamp.deserialize(context, message)
        context.assert_eof()
    except DeserializationError:
        return None
    return timestamp


def theirs(timestamp: Any) -> Found:
    found = set()
    for message, attestation in timestamp.all_attestations():
        height, payload = 0, getattr(attestation, "payload", b"")
        if isinstance(attestation, BitcoinBlockHeaderAttestation):
            height = attestation.height
        elif isinstance(attestation, PendingAttestation):
            payload = attestation.uri.encode()
        found.add((message, attestation.TAG, height, payload))
    return found


OPERATIONS = st.one_of(
    st.just(SHA256),
    st.builds(
        Operation, st.sampled_from([0xF0, 0xF1]), st.binary(min_size=1, max_size=9)
    ),
)
ATTESTATIONS = st.one_of(
    st.integers(0, 999_999_999).map(lambda height: End(BITCOIN, height)),
    st.text("abz-._/:09AZ", max_size=200).map(
        lambda uri: End(PENDING, 0, uri.encode())
    ),
    st.binary(max_size=200).map(lambda payload: End(UNKNOWN, 0, payload)),
)
PREFIXES = st.lists(OPERATIONS, max_size=5)


@st.composite
def ways(draw: st.DrawFn) -> list[Way]:
    """Ways that share beginnings, so that there are forks at all depths."""
    trunk = draw(st.lists(OPERATIONS, max_size=8))
    found = []
    for _ in range(draw(st.integers(1, 8))):
        cut = draw(st.integers(0, len(trunk)))
        trunk = [*trunk[:cut], *draw(PREFIXES)]
        found.append(Way(tuple(trunk), draw(ATTESTATIONS)))
    return found


class TestOneSpelling:
    @given(ways())
    def test_formatted_and_read_again_by_us_and_by_the_library(
        self, given_: list[Way]
    ) -> None:
        data = format_proof(given_)
        read = parse_canonical(data, DIGEST)
        assert set(read) == set(given_)
        assert format_proof(reversed(read)) == data
        timestamp = read_by_library(data)
        assert theirs(timestamp) == ours(read)
        assert written(timestamp) == data

    @given(ways(), st.randoms(use_true_random=False))
    def test_what_calendars_write_in_any_order_is_the_same_proof(
        self, given_: list[Way], chance: random.Random
    ) -> None:
        chance.shuffle(given_)
        # Each way for itself, joined at the root only: no fork is shared.
        rows = [format_proof([way]) for way in given_]
        data = b"".join(b"\xff" + row for row in rows[:-1]) + rows[-1]
        assert parse_proof(data, DIGEST) == parse_proof(format_proof(given_), DIGEST)

    @pytest.mark.parametrize(
        ("what", "data"),
        [
            ("operations", b"\xff\xf1\x01a" + BLOCK + b"\xf0\x01a" + BLOCK),
            ("attestations", b"\xff" + PROMISE + BLOCK),
            ("attestation behind operation", b"\xff\x08" + BLOCK + BLOCK),
            ("twice", b"\xff" + BLOCK + BLOCK),
            ("unjoined", b"\xff\x08" + PROMISE + b"\x08" + BLOCK),
        ],
    )
    def test_another_spelling_is_read_but_not_from_evidence(
        self, what: str, data: bytes
    ) -> None:
        assert parse_proof(data, DIGEST)
        with pytest.raises(MalformedError, match="in order, none twice"):
            parse_canonical(data, DIGEST)

    def test_heights_sort_as_numbers_not_as_bytes(self) -> None:
        data = format_proof([Way((), End(BITCOIN, at)) for at in (1, 256, 2)])
        assert [way.end.height for way in parse_proof(data, DIGEST)] == [*(1, 2, 256)]


class TestRefused:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "cut short"),
            (b"\xff", "cut short"),
            (BLOCK[:-1], "cut short"),
            (b"\x08", "cut short"),
            (b"\xf0\x05abcd", "cut short"),
            (BLOCK + b"\x00", "nothing after the end"),
            (b"\xff" + BLOCK, "cut short"),
            (b"\xff\xff" + BLOCK, "got 0xff"),
            (b"\x02" + BLOCK, "append, prepend or sha256 in a proof, got sha1"),
            (b"\x03" + BLOCK, "got ripemd160"),
            (b"\x67" + BLOCK, "got keccak256"),
            (b"\xf2" + BLOCK, "got reverse"),
            (b"\xf3" + BLOCK, "got hexlify"),
            (b"<html>", "got 0x3c"),
            (b"\xf0\x00" + BLOCK, "expected an argument, got none"),
            (b"\xf0\x81\x00a" + BLOCK, "in shortest form"),
            (b"\xf0\x81\x20" + bytes(4097) + BLOCK, "a number up to 4096"),
            (b"\xf0\xff\xff\xff\xff\xff\x01", "a number up to 4096"),
            (b"\xf0" + b"\xff" * 9, "a number up to 4096"),  # not read to its end
            (b"\x00" + BITCOIN + b"\x02\x07\x00", "nothing after the end"),
            (b"\x00" + BITCOIN + b"\x00", "cut short"),
            (b"\x00" + BITCOIN + b"\x02\x87\x00", "in shortest form"),
            (b"\x00" + BITCOIN + b"\x05\x80\x94\xeb\xdc\x03", "up to 999999999"),
            (b"\x00" + PENDING + b"\x04\x03a?b", "a plain URI"),
            (b"\x00" + PENDING + b"\x05\x04a:\xc3\xa9", "a plain URI"),
            (b"\x00" + PENDING + b"\x03\x03a:b", "cut short"),
            (b"\x00" + PENDING + b"\x04\x02a:b", "nothing after the end"),
            (b"\x00" + PENDING + b"\xeb\x07\xe9\x07" + b"a" * 1001, "up to 1000"),
            (b"\x00" + UNKNOWN + b"\x81\x40" + bytes(8193), "up to 8192"),
        ],
    )
    def test_bytes_that_are_no_proof(self, data: bytes, message: str) -> None:
        with pytest.raises(MalformedError, match=message):
            parse_proof(data, DIGEST)

    def test_what_it_refuses_as_weak_the_library_reads(self) -> None:
        for tag in (b"\x02", b"\x03", b"\x67", b"\xf2", b"\xf3"):
            assert read_by_library(tag + BLOCK) is not None

    def test_depth(self) -> None:
        assert parse_canonical(b"\x08" * MAX_DEPTH + BLOCK, DIGEST)
        assert read_by_library(b"\x08" * MAX_DEPTH + BLOCK)
        with pytest.raises(MalformedError, match="up to 255 operations in a row"):
            parse_proof(b"\x08" * (MAX_DEPTH + 1) + BLOCK, DIGEST)

    def test_attestations(self) -> None:
        def of(count: int) -> list[Way]:
            return [Way((), End(BITCOIN, at)) for at in range(count)]

        most = format_proof(of(MAX_WAYS))
        assert len(parse_canonical(most, DIGEST)) == MAX_WAYS
        for one_more in (b"\xff" + PROMISE + most, b"\xff\x08" * MAX_WAYS + BLOCK):
            with pytest.raises(MalformedError, match="1 to 64 attestations"):
                parse_proof(one_more, DIGEST)
        for count in (0, MAX_WAYS + 1):
            with pytest.raises(MalformedError, match="1 to 64 attestations"):
                format_proof(of(count))

    def test_messages(self) -> None:
        fits = b"\xf0" + b"\xe0\x1f" + bytes(MAX_MESSAGE - 32)
        assert parse_canonical(fits + BLOCK, DIGEST)
        with pytest.raises(MalformedError, match="messages of up to 4096 bytes"):
            parse_proof(fits + b"\xf1\x01a" + BLOCK, DIGEST)
        with pytest.raises(MalformedError, match="messages of up to 4096 bytes"):
            follow([append(bytes(4065))], DIGEST)

    def test_bytes(self) -> None:
        with pytest.raises(MalformedError, match="a proof of up to 131072 bytes"):
            parse_proof(bytes(MAX_PROOF + 1), DIGEST)
        with pytest.raises(MalformedError, match="a proof of up to 9 bytes"):
            parse_proof(BLOCK, DIGEST, 9)
        long = [
            Way((append(bytes([n]) * 4000), SHA256), End(BITCOIN, n)) for n in range(40)
        ]
        assert parse_canonical(format_proof(long[:30]), DIGEST)
        with pytest.raises(MalformedError, match="a proof of up to 131072 bytes"):
            format_proof(long)

    def test_going_on_too_long(self) -> None:
        tail = Way((SHA256,) * 200, End(BITCOIN, 1))
        assert extend((SHA256,) * 55, [tail])
        with pytest.raises(MalformedError, match="a proof of up to 255 operations"):
            extend((SHA256,) * 56, [tail])

    def test_the_costliest_proof_is_soon_read(self) -> None:
        deep = b"\xf0\x01a" * (MAX_DEPTH - 1) + b"\xff\x08" + BLOCK + BLOCK
        data = b"".join(b"\xff" + deep for _ in range(31)) + deep
        begun = time.process_time()
        assert parse_proof(data, bytes(3800))
        assert time.process_time() - begun < 5


class TestSecondOpinion:
    @given(st.binary(max_size=60))
    @example(BLOCK)
    def test_of_any_bytes(self, data: bytes) -> None:
        agree(data)

    def test_of_changed_proofs(self) -> None:
        """Bits, bytes and pieces of proofs with forks: 3,000, by seed."""
        chance = random.Random(11)
        good = [bytes.fromhex(REAL["osdsp.txt"]["proof"])]
        good += [
            format_proof(
                [
                    Way((append(b"n"), SHA256, append(b"%d" % n)), End(*leaf))
                    for n, leaf in enumerate(leaves)
                ]
            )
            for leaves in (
                [(BITCOIN, 300, b""), (PENDING, 0, b"a:b"), (UNKNOWN, 0, b"xyz")],
                [(BITCOIN, 7, b""), (BITCOIN, 70000, b"")],
            )
        ]
        ends = [agree(_changed(chance, chance.choice(good))) for _ in range(3000)]
        assert min(ends.count(end) for end in ("canonical", "read", "refused")) > 10


def agree(data: bytes) -> str:
    """Hold our reading of any bytes against the library's; say what it was."""
    library = read_by_library(data)
    try:
        read = parse_proof(data, DIGEST)
    except MalformedError as error:
        # What we alone refuse is a number in long form, or an operation or a bound.
        if library is not None:
            reasons = ("shortest form", "append, prepend", "a number up to", "of up to")
            if not any(reason in str(error) for reason in reasons):
                error.add_note(f"the library reads {data!r}")
                raise
        return "refused"
    strange = _odd_tags(read)
    if library is None:
        assert strange, data  # tags of other chains, which only the library knows
        return "read"
    assert theirs(library) <= ours(read) or strange
    try:
        parse_canonical(data, DIGEST)
    except MalformedError:
        return "read"
    if not strange:
        assert theirs(library) == ours(read)
        assert written(library) == data
    return "canonical"


def _odd_tags(ways_: Iterable[Way]) -> bool:
    litecoin, ethereum = "06869a0d73d71b45", "30fe8087b5c7ead7"
    return any(way.end.tag.hex() in {litecoin, ethereum} for way in ways_)


def _changed(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    piece = data[at : at + chance.choice([1, 4, 40])]
    other = chance.randrange(len(data))
    match chance.randrange(5):
        case 0:
            return (
                data[:at]
                + bytes([data[at] ^ 1 << chance.randrange(8)])
                + data[at + 1 :]
            )
        case 1:
            return (
                data[:at]
                + chance.choice(b"\x00\x08\xf0\xf1\xf2\xff\x03\x80").to_bytes()
                + data[at + 1 :]
            )
        case 2:
            return data[:at] + data[at + len(piece) :]
        case 3:
            return data[:other] + piece + data[other:]
        case _:
            return data[:at] + chance.randbytes(chance.randint(1, 3)) + data[at:]


class TestRealProofs:
    def test_the_oldest_leads_to_its_block(self) -> None:
        real = REAL["hello-world.txt"]
        data, header = (
            bytes.fromhex(real["proof"]),
            bytes.fromhex(real["header"]["bytes"]),
        )
        with pytest.raises(MalformedError, match="got ripemd160"):
            parse_proof(data, bytes.fromhex(real["digest"]))
        # From what ripemd160 gave on, it is made of what we honour.
        message = bytes.fromhex("1df8859e60bc679503d16dcb870e6ce91a57e9df")
        (way,) = parse_canonical(data[1:], message)
        assert way.end == End(BITCOIN, real["header"]["height"])
        assert follow(way.operations, message) == header[36:68]

    def test_five_calendars_of_which_one_has_delivered(self) -> None:
        real = REAL["osdsp.txt"]
        digest, data = bytes.fromhex(real["digest"]), bytes.fromhex(real["proof"])
        read = parse_proof(data, digest)
        uris = sorted(way.end.payload for way in read if way.end.tag == PENDING)
        assert uris == [
            b"https://alice.btc.calendar.opentimestamps.org",
            b"https://bob.btc.calendar.opentimestamps.org",
            b"https://btc.calendar.catallaxy.com",
            b"https://finney.calendar.eternitywall.com",
        ]
        (block,) = [way for way in read if way.end.tag == BITCOIN]
        assert block.end.height == real["leads"]["height"]
        assert follow(block.operations, digest).hex() == real["leads"]["root"]
        assert format_proof(read) == written(read_by_library(data, digest)) == data

    def test_a_detached_file_is_what_other_clients_read(self) -> None:
        note = b"log.example/a\n1\nroot\n\n- signature\n"
        digest = anchor_digest(note)
        data = format_proof([Way((append(b"n"), SHA256), End(BITCOIN, 7))])
        file = format_detached(data, digest)
        read = DetachedTimestampFile.deserialize(BytesDeserializationContext(file))
        assert read.file_hash_op.hash_fd(io.BytesIO(TAG + note)) == read.file_digest
        assert theirs(read.timestamp) == ours(parse_proof(data, digest), digest)
