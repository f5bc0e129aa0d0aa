"""Content without a secret as bytes: one spelling, and nothing in it goes unnoticed."""

import gzip
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import AuditLogError, MalformedError
from auditlog.core.record import Entry, parse_entry
from auditlog.log.content import Content, Leaf, pack, unpack, verify_content
from auditlog.log.description import Describer
from auditlog.log.parts import Hashed, Part, Piece, Salted, Salts
from auditlog.storage.sealing import padme_length
from tests.log.builders import ORIGIN, exchange
from tests.log.redactions import WordRedaction
from tests.log.test_redacting import ASKED, body_of

COMPRESSOR = zstandard.ZstdCompressor(level=1)
SALT = bytes(range(16))


def _described() -> tuple[Entry, Content]:
    """Return content that has leaves of every kind."""
    secret = os.urandom(32)
    coded = body_of(1, gzip.compress(b'{"a": 1}'), secret, coding="gzip")
    one = exchange(
        0,
        request=ASKED,
        response=coded,
        secret=secret,
        target=b"/" + b"long" * 40,
        redaction=WordRedaction(b"493817", b"Ada"),
    )
    described = Describer(ORIGIN, bytes(16), depth=2).describe(one)
    return parse_entry(described.entry), described.content


ENTRY, CONTENT = _described()
PACKED = pack(CONTENT, COMPRESSOR)


def _said(leaves: list[Leaf]) -> list[tuple[str, bytes | None, bytes, bytes]]:
    return [(one.path, one.value, one.salt, one.hash) for one in leaves]


def test_leaves_of_every_kind_are_there() -> None:
    assert CONTENT.salts is not None
    assert {type(one) for one in CONTENT.salts.leaves} == {Hashed, Salted, Piece}
    assert CONTENT.decoded["response"].value == b'{"a": 1}'
    assert CONTENT.context["target"].startswith(b"/long")


def test_content_survives_packing() -> None:
    assert unpack(PACKED) == CONTENT
    assert PACKED[0] == 2
    assert len(PACKED) == padme_length(len(PACKED))


@given(st.binary(max_size=500))
def test_any_bytes_give_content_or_our_error(data: bytes) -> None:
    for packed in (b"\x02" + data, PACKED[:37] + data, PACKED[:41] + data):
        with suppress(AuditLogError):
            unpack(packed)


@given(st.integers(0, len(PACKED) - 1), st.integers(1, 255))
def test_a_changed_byte_is_refused_or_says_the_same(at: int, change: int) -> None:
    packed = bytearray(PACKED)
    packed[at] ^= change
    _refused_or_equal(bytes(packed))


def test_each_byte_and_each_cut_is_refused_or_says_the_same() -> None:
    for at in range(len(PACKED)):
        packed = bytearray(PACKED)
        packed[at] ^= 1
        _refused_or_equal(bytes(packed))
        with pytest.raises(AuditLogError):
            unpack(PACKED[:at])


def _refused_or_equal(packed: bytes) -> None:
    with suppress(AuditLogError):
        content = unpack(packed)
        leaves = verify_content(ENTRY, content)
        # Such as another mark in the head of a compressed value.
        assert _said(leaves) == _said(verify_content(ENTRY, CONTENT))
        assert content == CONTENT


def _with(**changes: object) -> Content:
    assert CONTENT.salts is not None
    return replace(CONTENT, salts=CONTENT.salts._replace(**changes))  # type: ignore[arg-type]


def _leaves(change: Callable[[list[Hashed | Salted | Piece]], None]) -> Content:
    assert CONTENT.salts is not None
    leaves = list(CONTENT.salts.leaves)
    change(leaves)
    return _with(leaves=tuple(leaves))


def _swap(leaves: list[Hashed | Salted | Piece]) -> None:
    at = [n for n, one in enumerate(leaves) if isinstance(one, Piece)]
    leaves[at[0]], leaves[at[1]] = leaves[at[1]], leaves[at[0]]


def _renumber(leaves: list[Hashed | Salted | Piece]) -> None:
    at = next(n for n, one in enumerate(leaves) if isinstance(one, Piece))
    leaves[at] = leaves[at]._replace(number=0)  # type: ignore[call-arg]


def _other_side(leaves: list[Hashed | Salted | Piece]) -> None:
    at = next(n for n, one in enumerate(leaves) if isinstance(one, Piece))
    leaves[at] = leaves[at]._replace(side="response", number=0)  # type: ignore[call-arg]


def _rehash(leaves: list[Hashed | Salted | Piece]) -> None:
    at = max(n for n, one in enumerate(leaves) if isinstance(one, Hashed))
    leaves[at] = Hashed(bytes(32))


@pytest.mark.parametrize(
    "lie",
    [
        _with(first=bytes(16)),
        _leaves(_swap),
        _leaves(_renumber),
        _leaves(_other_side),
        _leaves(_rehash),
        replace(CONTENT, parts=(CONTENT.parts[0]._replace(size=3), *CONTENT.parts[1:])),
        replace(
            CONTENT,
            parts=(
                *CONTENT.parts[:-1],
                CONTENT.parts[-1]._replace(value=b"/" + b"l0ng" * 40),
            ),
        ),
    ],
    ids=["salt", "swapped", "number", "side", "hash", "size", "value"],
)
def test_what_was_changed_is_not_what_was_committed_to(lie: Content) -> None:
    again = unpack(pack(lie, COMPRESSOR))
    assert again == lie
    with pytest.raises(AuditLogError, match="does not match the commitment"):
        verify_content(ENTRY, again)


def test_a_piece_that_is_not_in_the_stored_copy_is_refused() -> None:
    def beyond(leaves: list[Hashed | Salted | Piece]) -> None:
        at = next(n for n, one in enumerate(leaves) if isinstance(one, Piece))
        leaves[at] = leaves[at]._replace(number=5)  # type: ignore[call-arg]

    with pytest.raises(
        MalformedError, match="expected piece 5 of the stored request to be one of its"
    ):
        verify_content(ENTRY, _leaves(beyond))


def _bare(*parts: Part, leaves: tuple[Hashed | Salted | Piece, ...] = ()) -> Content:
    """Return content of which everything is kept, with these parts."""
    return Content(None, parts, Salts(SALT, leaves or (Salted(SALT),) * len(parts)))


def _part(path: str, value: bytes = b"value") -> Part:
    return Part(path, value, len(value))


BODIES = (_part("request"), _part("response"))
CODED = Part("request:decoded", b"x", 1, coding="gzip")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_bare(), "has 0 leaves and ends elsewhere"),
        (_bare(BODIES[0], BODIES[1], leaves=(Salted(SALT),)), "has 1 leaves and ends"),
        (_bare(BODIES[1], BODIES[0]), "lacks the request, of 5 bytes, as leaf 0"),
        (_bare(BODIES[0], _part("context/a")), "lacks the response, of 5 bytes, as"),
        (
            _bare(*BODIES, leaves=(Piece(SALT, "request", 0), Salted(SALT))),
            "lacks the request, of 5 bytes, as leaf 0",
        ),
        (
            _bare(BODIES[0]._replace(leaf_hash=bytes(32)), BODIES[1]),
            "part 'request' is cut, where only whole ones can be",
        ),
        (
            _bare(*BODIES, _part("context/stored.request")),
            "has both the request and a copy of it",
        ),
        (
            _bare(*BODIES, _part("context/b"), _part("context/a")),
            "that cannot be",
        ),
        (
            _bare(*BODIES, _part("context/a"), _part("context/a")),
            "that cannot be",
        ),
        (_bare(*BODIES, _part("request/a")), "cannot be where they are"),
        (_bare(*BODIES, CODED), "'request:decoded' does not decode to 1 bytes"),
        (
            _bare(*BODIES, CODED._replace(path="context/a")),
            "has no whole body",
        ),
    ],
)
def test_what_cannot_be_is_refused(content: Content, message: str) -> None:
    padded = content if len(content.parts) > 1 else replace(content, parts=BODIES)
    with pytest.raises(MalformedError, match=message):
        unpack(pack(padded, COMPRESSOR))


def test_a_body_that_is_only_a_hash_has_no_decoded_form() -> None:
    raw = Part("request", b"", 5, bytes(32))
    leaves = (Hashed(bytes(32)), Salted(SALT), Salted(SALT))
    content = _bare(raw, BODIES[1], CODED, leaves=leaves)
    with pytest.raises(MalformedError, match="no whole body to be decoded from"):
        unpack(pack(content, COMPRESSOR))


def test_padding_is_zeros_and_no_longer_than_it_must_be() -> None:
    content = _bare(*BODIES, _part("context/a", bytes(range(90))))
    packed = pack(content, COMPRESSOR)
    assert packed.endswith(b"\0"), "there is padding"
    with pytest.raises(MalformedError, match="has data after its last leaf"):
        unpack(packed[:-1] + b"\1")
    with pytest.raises(MalformedError, match="ends elsewhere than they do"):
        unpack(packed + b"\0")
    with pytest.raises(MalformedError, match="ends elsewhere than they do"):
        unpack(packed[:-1])


@pytest.mark.parametrize("kind", [4, 255])
def test_a_leaf_of_no_kind_is_refused(kind: int) -> None:
    packed = bytearray(PACKED)
    packed[37] = kind
    with pytest.raises(MalformedError, match="cut or damaged at byte 37"):
        unpack(bytes(packed))


def test_other_data_after_a_compressed_value_is_refused() -> None:
    packed = pack(_bare(_part("request", b"a" * 400), BODIES[1]), COMPRESSOR)
    frame = COMPRESSOR.compress(b"a" * 400)
    longer = frame + b"hidden"
    head = len(frame).to_bytes(4) + frame
    forged = packed.rstrip(b"\0").replace(head, len(longer).to_bytes(4) + longer)
    forged = forged.ljust(padme_length(len(forged)), b"\0")
    with pytest.raises(MalformedError, match="'request' does not decompress"):
        unpack(forged)
