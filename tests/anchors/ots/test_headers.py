"""Block headers: work, order, and the table that a verifier makes of them."""

import contextlib
import hashlib
import json
from pathlib import Path

import pytest
from bitcoin.core import CBlockHeader, uint256_from_compact
from hypothesis import given
from hypothesis import strategies as st

from auditlog.anchors.ots.headers import (
    EASIEST,
    check_successor,
    format_headers,
    parse_header,
)
from auditlog.anchors.trust import parse_trust
from auditlog.core.errors import MalformedError, VerificationError
from tests.anchors.ots.calendar import TARGET, Chain

REAL = json.loads(Path(__file__).with_name("real_proofs.json").read_text())
BLOCK = REAL["hello-world.txt"]["header"]
RAW = bytes.fromhex(BLOCK["bytes"])


@pytest.fixture(scope="module")
def chain() -> Chain:
    chain = Chain()
    for _ in range(5):
        chain.mine()
    return chain


def with_bits(bits: int, header: bytes = RAW) -> bytes:
    return header[:72] + bits.to_bytes(4, "little") + header[76:]


class TestOne:
    def test_a_real_one(self) -> None:
        header = parse_header(RAW)
        assert header.hash[::-1].hex() == BLOCK["hash"]
        assert header.time == 1432827678
        assert header.target == 0x1686F5 << 8 * 21

    def test_as_the_library_reads_it(self, chain: Chain) -> None:
        for height in range(chain.first, chain.first + 6):
            header = parse_header(chain.header(height))
            theirs = CBlockHeader.deserialize(chain.header(height))
            assert header.previous == theirs.hashPrevBlock
            assert header.root == theirs.hashMerkleRoot
            assert header.time == theirs.nTime
            assert header.target == uint256_from_compact(theirs.nBits) == TARGET
            assert header.hash == theirs.GetHash()

    @pytest.mark.parametrize("size", [0, 79, 81, 160])
    def test_of_another_size(self, size: int) -> None:
        with pytest.raises(MalformedError, match=f"of 80 bytes, got {size}"):
            parse_header(bytes(size))

    def test_a_changed_bit_costs_the_work(self) -> None:
        for at in range(8 * 72):
            changed = bytearray(RAW)
            changed[at // 8] ^= 1 << at % 8
            with pytest.raises(VerificationError, match="the work that it claims"):
                parse_header(bytes(changed))

    @pytest.mark.parametrize(
        "bits",
        [0, 0x1D800001, 0x04FFFFFF, 0x1D000000, 0x02000000, 0x23000001, 0xFF7FFFFF],
    )
    def test_a_target_that_is_no_number(self, bits: int) -> None:
        with pytest.raises(MalformedError, match="a target from 1 to 2"):
            parse_header(with_bits(bits))

    @given(st.integers(3, 0x20), st.integers(1, 0x7FFFFF))
    def test_targets_as_the_library_has_them(self, exponent: int, value: int) -> None:
        bits = exponent << 24 | value
        try:
            target = parse_header(with_bits(bits)).target
        except VerificationError:
            hash_ = hashlib.sha256(hashlib.sha256(with_bits(bits)).digest()).digest()
            target = uint256_from_compact(bits)
            assert int.from_bytes(hash_, "little") > target
        assert target == uint256_from_compact(bits)

    def test_one_that_does_not_follow(self, chain: Chain) -> None:
        first, second, third = (
            parse_header(chain.header(chain.first + at)) for at in range(3)
        )
        check_successor(first, second)
        for other in (first, third):
            with pytest.raises(VerificationError, match="names the one before"):
                check_successor(first, other)

    @given(st.binary(min_size=80, max_size=80))
    def test_any_bytes_give_a_value_or_our_error(self, data: bytes) -> None:
        with contextlib.suppress(MalformedError, VerificationError):
            parse_header(data)


class TestTable:
    def test_read_as_a_trust_file(self, chain: Chain) -> None:
        text = format_headers(chain.raw, chain.first, easiest=TARGET)
        (table,) = parse_trust(text).bitcoin
        assert table.party == "Bitcoin"
        assert b"".join(header for _, header in table.headers) == chain.raw
        assert [height for height, _ in table.headers] == [
            chain.first + at for at in range(6)
        ]
        with pytest.raises(MalformedError, match="each block of a party once"):
            parse_trust(text + text)

    def test_only_some_are_written_but_all_are_checked(self, chain: Chain) -> None:
        keep = {chain.first + 3, chain.first + 1}
        text = format_headers(chain.raw, chain.first, keep=keep, easiest=TARGET)
        (table,) = parse_trust(text).bitcoin
        assert dict(table.headers) == {at: chain.header(at) for at in keep}
        broken = chain.raw[:80] + bytes(80) + chain.raw[160:]
        with pytest.raises(MalformedError, match=f"header {chain.first + 1}: "):
            format_headers(broken, chain.first, keep=keep, easiest=TARGET)

    @pytest.mark.parametrize("party", ['"', "\\", 'a"\\n', "Ünïcode", "a'b"])
    def test_any_party(self, chain: Chain, party: str) -> None:
        text = format_headers(chain.raw, 0, party=party, easiest=TARGET)
        assert parse_trust(text).bitcoin[0].party == party

    def test_a_party_cannot_add_to_the_file(self, chain: Chain) -> None:
        party = 'a"\n[[revoked]]\n'
        with pytest.raises(MalformedError, match="a printable name"):
            parse_trust(format_headers(chain.raw, 0, party=party, easiest=TARGET))

    def test_too_little_work_for_bitcoin(self, chain: Chain) -> None:
        assert format_headers(RAW, 358391, easiest=1 << 190)
        with pytest.raises(
            VerificationError, match="target of 182 bits, got 189: it takes too little"
        ):
            format_headers(RAW, 358391)
        with pytest.raises(VerificationError, match=r"header 1: .*182 bits, got 255"):
            format_headers(chain.raw, 1)

    def test_the_floor_is_the_difficulty_that_is_documented(self) -> None:
        assert 8.7e12 < (0xFFFF << 208) / EASIEST < 8.9e12

    def test_one_left_out_or_two_exchanged(self, chain: Chain) -> None:
        raw = chain.raw
        for broken in (raw[:80] + raw[160:], raw[80:160] + raw[:80]):
            with pytest.raises(VerificationError, match=r"header 6: .*the one before"):
                format_headers(broken, 5, easiest=TARGET)

    @pytest.mark.parametrize("raw", [b"", RAW[:-1], RAW + b"\n"])
    def test_no_headers(self, raw: bytes) -> None:
        with pytest.raises(MalformedError, match=f"80 bytes, got {len(raw)} bytes"):
            format_headers(raw, 0)

    def test_heights_that_are_none(self, chain: Chain) -> None:
        for first in (-1, 1_000_000_000, 999_999_999):
            with pytest.raises(MalformedError, match="a height from 0 to"):
                format_headers(chain.raw, first, easiest=TARGET)
        with pytest.raises(MalformedError, match="only heights to keep"):
            format_headers(chain.raw, 0, keep={6}, easiest=TARGET)
