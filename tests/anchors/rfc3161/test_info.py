"""TSTInfo and DER, byte by byte: what is read, and what is not."""

import pytest
from asn1crypto import core
from hypothesis import given
from hypothesis import strategies as st

from auditlog.anchors.rfc3161 import der
from auditlog.anchors.rfc3161.info import parse_info
from auditlog.core.errors import MalformedError
from tests.anchors.rfc3161.stamping import NOON, us

SHA_256 = "2.16.840.1.101.3.4.2.1"
ONE = der.encode_integer(1)
POLICY = der.encode_oid("1.2.3")
IMPRINT = der.encode(
    der.SEQUENCE,
    der.encode(der.SEQUENCE, der.encode_oid(SHA_256)),
    der.encode(der.OCTET_STRING, bytes(32)),
)
SERIAL = der.encode_integer(7)


def time_of(text: str) -> bytes:
    return der.encode(der.GENERALIZED_TIME, text.encode())


TIME = time_of("20261126120000Z")
REQUIRED = (ONE, POLICY, IMPRINT, SERIAL, TIME)


def info(*members: bytes) -> bytes:
    return der.encode(der.SEQUENCE, *members)


def accuracy(*members: bytes) -> bytes:
    return der.encode(der.SEQUENCE, *members)


def millis(value: int, tag: int = 0x80) -> bytes:
    return bytes([tag]) + der.encode_integer(value)[1:]


def micros(value: int) -> bytes:
    return millis(value, 0x81)


class TestInfo:
    def test_what_it_must_have(self) -> None:
        found = parse_info(info(*REQUIRED))
        assert tuple(found) == (
            "1.2.3",
            SHA_256,
            bytes(32),
            7,
            us(NOON),
            1_000_000,
            None,
        )
        assert found.moment == NOON
        assert found.not_after == us(NOON) + 1_000_000

    def test_what_it_may_have(self) -> None:
        ordering = der.encode(der.BOOLEAN, b"\xff")
        name = der.encode(der.tagged(0), der.encode(0xA4, b""))
        extension = der.encode(
            der.SEQUENCE, der.encode_oid("1.2.3"), der.encode(der.OCTET_STRING, b"x")
        )
        extensions = der.encode(der.tagged(1), extension)
        found = parse_info(
            info(
                *REQUIRED,
                accuracy(der.encode_integer(2)),
                ordering,
                der.encode_integer(99),
                name,
                extensions,
            )
        )
        assert (found.tolerance, found.nonce) == (2_000_000, 99)

    @pytest.mark.parametrize(
        ("text", "after"),
        [
            ("20261126120000Z", 0),
            ("20261126120000.5Z", 500_000),
            ("20261126120000.000001Z", 1),
            ("20261126120000.123456Z", 123_456),
        ],
    )
    def test_times(self, text: str, after: int) -> None:
        found = parse_info(info(*REQUIRED[:4], time_of(text)))
        assert found.time == us(NOON) + after

    @pytest.mark.parametrize(
        "text",
        [
            *("20261126120000", "202611261200Z", "20261126120000.Z"),
            *("20261126120000.50Z", "20261126120000.0Z", "20261126120000.1234567Z"),
            *("20261126120000+0000", "20261126130000+0100", "2026112612000 Z"),
            *("20261326120000Z", "20260230120000Z", "20261126240000Z"),
            *("20261126120060Z", "20261126120000z", "20261126120000,5Z", ""),
            "\u0662\u0660261126120000Z",
        ],
    )
    def test_other_spellings_of_times(self, text: str) -> None:
        with pytest.raises(MalformedError, match="a GeneralizedTime in UTC"):
            parse_info(info(*REQUIRED[:4], time_of(text)))

    @pytest.mark.parametrize("year", ["1969", "9991", "0001"])
    def test_times_out_of_range(self, year: str) -> None:
        with pytest.raises(MalformedError, match="a time from 1970 to 9990"):
            parse_info(info(*REQUIRED[:4], time_of(f"{year}1126120000Z")))

    @pytest.mark.parametrize(
        ("members", "tolerance"),
        [
            ([], 1_000_000),
            ([der.encode_integer(0)], 1_000_000),
            ([der.encode_integer(86_400)], 86_400_000_000),
            ([millis(999)], 999_000),
            ([micros(1)], 1),
            ([der.encode_integer(1), millis(2), micros(3)], 1_002_003),
        ],
    )
    def test_accuracies(self, members: list[bytes], tolerance: int) -> None:
        assert parse_info(info(*REQUIRED, accuracy(*members))).tolerance == tolerance

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ([der.encode_integer(86_401)], "an accuracy of up to a day"),
            ([millis(1000)], "an accuracy of up to a day"),
            ([b"\x02\x01\xff"], "not negative as accuracy"),
            ([b"\x80\x01\xff"], "not negative as accuracy"),
            ([micros(1), millis(1)], "expected seconds, millis and micros"),
            ([millis(1), millis(1)], "expected seconds, millis and micros"),
            ([b"\x05\x00"], "expected seconds, millis and micros"),
        ],
    )
    def test_accuracies_refused(self, members: list[bytes], message: str) -> None:
        with pytest.raises(MalformedError, match=message):
            parse_info(info(*REQUIRED, accuracy(*members)))

    @pytest.mark.parametrize(
        ("members", "message"),
        [
            ([der.encode_integer(2), *REQUIRED[1:]], "TSTInfo of version 1"),
            (REQUIRED[:4], "TSTInfo of version 1"),
            ([ONE, ONE, *REQUIRED[2:]], "an OID as policy"),
            ([ONE, POLICY, POLICY, SERIAL, TIME], "a message imprint"),
            ([ONE, POLICY, info(info(), IMPRINT), SERIAL, TIME], "a message imprint"),
            (
                [ONE, POLICY, info(info(), b"\x04\x00"), SERIAL, TIME],
                "expected an algorithm as hash algorithm",
            ),
            ([*REQUIRED[:3], b"\x02\x01\xff", TIME], "serial number of a token"),
            ([*REQUIRED[:3], TIME, SERIAL], "serial number of a token"),
            ([*REQUIRED, b"\x01\x01\x00"], "an unknown member"),
            ([*REQUIRED, b"\x01\x01\x01"], "an unknown member"),
            ([*REQUIRED, ONE, accuracy()], "an unknown member"),
            ([*REQUIRED, ONE, ONE], "an unknown member"),
            ([*REQUIRED, b"\x02\x01\xff"], "not negative as nonce"),
            (
                [
                    *REQUIRED,
                    der.encode(
                        der.tagged(1),
                        info(POLICY, b"\x01\x01\xff", der.encode(der.OCTET_STRING)),
                    ),
                ],
                "no critical extension",
            ),
            ([*REQUIRED, der.encode(der.tagged(1), ONE)], "no critical extension"),
        ],
    )
    def test_members_refused(self, members: list[bytes], message: str) -> None:
        with pytest.raises(MalformedError, match=message):
            parse_info(info(*members))


class TestDer:
    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"\x30", "cut value"),
            (b"\x30\x01", "cut short"),
            (b"\x30\x80\x00\x00", "shortest form"),
            (b"\x30\x81\x01\x00", "shortest form"),
            (b"\x30\x82\x00\x80" + bytes(128), "shortest form"),
            (b"\x30\x85\x00\x00\x00\x00\x00", "shortest form"),
            (b"\x30\x84\xff\xff\xff\xff", "cut short"),
            (b"\x30\x82\x01", "shortest form"),
            (b"\x1f\x01\x00", "tag of many bytes"),
            (b"\x30\x00\x00", "cut value"),
        ],
    )
    def test_lengths_and_tags(self, data: bytes, message: str) -> None:
        with pytest.raises(MalformedError, match=message):
            der.items(data)

    def test_one_value_and_no_more(self) -> None:
        assert der.whole(b"\x05\x00", der.NULL, "nothing").raw == b"\x05\x00"
        for data in (b"", b"\x05\x00\x05\x00", b"\x30\x00"):
            with pytest.raises(MalformedError, match="nothing in DER and nothing else"):
                der.whole(data, der.NULL, "nothing")

    @pytest.mark.parametrize("content", ["", "80", "ff01", "0001", "00" * 2])
    def test_integers_refused(self, content: str) -> None:
        item = der.items(der.encode(der.INTEGER, bytes.fromhex(content)))[0]
        with pytest.raises(MalformedError, match="not negative as x"):
            der.integer(item, "x")

    def test_integers_end(self) -> None:
        der.integer(der.items(der.encode(der.INTEGER, b"\1" * 64))[0], "x")
        with pytest.raises(MalformedError, match="not negative as x"):
            der.integer(der.items(der.encode(der.INTEGER, b"\1" * 65))[0], "x")

    @pytest.mark.parametrize("content", ["", "80", "2a80", "2a8001", "2a86", "8001"])
    def test_oids_refused(self, content: str) -> None:
        item = der.items(der.encode(der.OID, bytes.fromhex(content)))[0]
        with pytest.raises(MalformedError, match="an OID as x"):
            der.oid(item, "x")

    def test_oids_end(self) -> None:
        long = der.items(der.encode(der.OID, b"\x2a" + b"\1" * 64))[0]
        with pytest.raises(MalformedError, match="an OID as x"):
            der.oid(long, "x")

    @given(st.integers(0, 2**500))
    def test_integers_as_asn1crypto_writes_them(self, value: int) -> None:
        data = der.encode_integer(value)
        assert data == core.Integer(value).dump()
        assert der.integer(der.items(data)[0], "x") == value

    @given(
        st.tuples(st.integers(0, 1), st.integers(0, 39))
        | st.tuples(st.just(2), st.integers(0, 10**6)),
        st.lists(st.integers(0, 2**40), max_size=6),
    )
    def test_oids_as_asn1crypto_writes_them(
        self, head: tuple[int, int], rest: list[int]
    ) -> None:
        text = ".".join(map(str, [*head, *rest]))
        data = der.encode_oid(text)
        assert data == core.ObjectIdentifier(text).dump()
        assert der.oid(der.items(data)[0], "x") == text

    @given(st.binary(max_size=40))
    def test_any_bytes_give_values_or_our_error(self, data: bytes) -> None:
        try:
            found = der.items(data)
        except MalformedError:
            return
        assert b"".join(item.raw for item in found) == data
        assert all(der.encode(item.tag, item.content) == item.raw for item in found)

    @given(st.integers(0, 70_000))
    def test_lengths_in_their_shortest_form(self, size: int) -> None:
        data = der.encode(der.OCTET_STRING, bytes(size))
        assert data == core.OctetString(bytes(size)).dump()
        assert der.items(data)[0].content == bytes(size)
