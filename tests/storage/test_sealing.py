"""Sealed content and wrapped keys: they open as they were closed, or not at all."""

from collections.abc import Callable
from hashlib import shake_256

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import AuditLogError, MalformedError, VerificationError
from auditlog.storage.sealing import (
    MAX_PLAINTEXT,
    SLOT_SIZE,
    padme_length,
    seal,
    unseal,
    unwrap_slot,
    wrap_slot,
)

KEY, KEY_ID, LEAF, R = b"K" * 32, b"i" * 16, b"l" * 32, b"r" * 32
KEK, NONCE = b"E" * 32, b"n" * 12


def test_sealing_is_done_as_formats_says() -> None:
    sealed = seal(KEY, KEY_ID, LEAF, R, b"content")
    assert sealed[:33] == b"\x01" + R
    record_key = shake_256(b"auditlog/record-key/v1\n" + KEY + R).digest(32)
    aad = b"auditlog/seal/v1\n" + LEAF + KEY_ID
    assert AESGCM(record_key).decrypt(bytes(12), sealed[33:], aad) == b"content"


@given(st.binary())
def test_sealed_content_opens(plaintext: bytes) -> None:
    sealed = seal(KEY, KEY_ID, LEAF, R, plaintext)
    assert len(sealed) == 1 + 32 + len(plaintext) + 16
    assert unseal(KEY, KEY_ID, LEAF, sealed) == plaintext


def test_every_flipped_bit_of_sealed_content_is_refused() -> None:
    sealed = seal(KEY, KEY_ID, LEAF, R, b"content")
    for bit in range(8 * len(sealed)):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        expected = MalformedError if bit < 8 else VerificationError
        with pytest.raises(expected):
            unseal(KEY, KEY_ID, LEAF, bytes(damaged))


@pytest.mark.parametrize(
    ("key", "key_id", "leaf"),
    [
        (b"k" * 32, KEY_ID, LEAF),
        (KEY, b"j" * 16, LEAF),
        (KEY, KEY_ID, b"m" * 32),
    ],
)
def test_another_key_or_entry_does_not_open(
    key: bytes, key_id: bytes, leaf: bytes
) -> None:
    sealed = seal(KEY, KEY_ID, LEAF, R, b"content")
    with pytest.raises(VerificationError, match="another key or entry, or changed"):
        unseal(key, key_id, leaf, sealed)


@given(st.binary(max_size=200))
def test_any_bytes_stay_sealed(data: bytes) -> None:
    for sealed in (data, b"\x01" + data):
        with pytest.raises(AuditLogError):
            unseal(KEY, KEY_ID, LEAF, sealed)


class Long(bytes):
    """Bytes that say they are more than AES-GCM takes at once."""

    def __len__(self) -> int:
        return 1 << 32


def test_there_is_an_end_to_what_can_be_sealed() -> None:
    with pytest.raises(MalformedError, match="at most 2147483631 bytes to seal"):
        seal(KEY, KEY_ID, LEAF, R, Long(b"x"))
    with pytest.raises(MalformedError, match="49 bytes to 2 GiB, got 4294967296"):
        unseal(KEY, KEY_ID, LEAF, Long(b"\x01" + bytes(60)))


def test_refusals_of_sealing() -> None:
    with pytest.raises(MalformedError, match="a key of 32 bytes, got 31"):
        seal(KEY[1:], KEY_ID, LEAF, R, b"")
    with pytest.raises(MalformedError, match="a key id of 16 bytes, got 15"):
        seal(KEY, KEY_ID[1:], LEAF, R, b"")
    with pytest.raises(MalformedError, match="a leaf hash of 32 bytes, got 33"):
        seal(KEY, KEY_ID, LEAF + b"x", R, b"")
    with pytest.raises(MalformedError, match="r of 32 bytes, got 0"):
        seal(KEY, KEY_ID, LEAF, b"", b"")
    sealed = seal(KEY, KEY_ID, LEAF, R, b"")
    with pytest.raises(
        MalformedError, match="sealed content of 49 bytes to 2 GiB, got 48"
    ):
        unseal(KEY, KEY_ID, LEAF, sealed[:-1])
    with pytest.raises(MalformedError, match="version 1 of sealed bytes, got 2"):
        unseal(KEY, KEY_ID, LEAF, b"\x02" + sealed[1:])
    with pytest.raises(MalformedError, match="a key of 32 bytes, got 16"):
        unseal(KEY[:16], KEY_ID, LEAF, sealed)


ATTEMPTS: list[Callable[[], bytes]] = [
    lambda: seal(KEY + b"x", KEY_ID, LEAF, R, b""),
    lambda: unseal(KEY, KEY_ID, LEAF, b"\x01" + bytes(60)),
    lambda: wrap_slot(KEK, KEY + b"x", KEY_ID, 0, NONCE),
    lambda: unwrap_slot(KEK, b"\x01" + bytes(63), KEY_ID, 0),
]


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=range(4))
def test_messages_hold_no_key(attempt: Callable[[], bytes]) -> None:
    with pytest.raises(AuditLogError) as caught:
        attempt()
    for key in (KEY, KEK):
        assert key.decode()[:4] not in str(caught.value)
        assert key.hex()[:8] not in str(caught.value)


# --- padding --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n", "expected"),
    [(0, 0), (1, 1), (2, 2), (8, 8), (9, 10), (100, 104), (1000, 1024), (1025, 1088)],
)
def test_padme_lengths(n: int, expected: int) -> None:
    assert padme_length(n) == expected


@given(st.integers(0, 1 << 40))
def test_padme_grows_by_an_eighth_at_most_and_stays(n: int) -> None:
    padded = padme_length(n)
    assert n <= padded <= n * 1.12
    assert padme_length(padded) == padded
    assert padme_length(n + 1) >= padded


def test_padme_leaves_few_lengths() -> None:
    assert len({padme_length(n) for n in range(1, 1 << 16)}) < 350


# --- keyring slots --------------------------------------------------------------------


def test_slots_are_wrapped_as_formats_says() -> None:
    slot = wrap_slot(KEK, KEY, KEY_ID, 7, NONCE)
    assert len(slot) == SLOT_SIZE == 64
    assert slot[:13] == b"\x01" + NONCE
    assert slot[61:] == bytes(3)
    aad = b"auditlog/wrap/v1\n" + KEY_ID + (7).to_bytes(8, "big")
    assert AESGCM(KEK).decrypt(NONCE, slot[13:61], aad) == KEY
    assert unwrap_slot(KEK, slot, KEY_ID, 7) == KEY


def test_every_flipped_bit_of_a_slot_is_refused() -> None:
    slot = wrap_slot(KEK, KEY, KEY_ID, 7, NONCE)
    for bit in range(8 * len(slot)):
        damaged = bytearray(slot)
        damaged[bit // 8] ^= 1 << bit % 8
        edge = bit < 8 or bit >= 8 * 61
        with pytest.raises(MalformedError if edge else VerificationError):
            unwrap_slot(KEK, bytes(damaged), KEY_ID, 7)


@pytest.mark.parametrize(
    ("kek", "key_id", "number"),
    [(b"e" * 32, KEY_ID, 7), (KEK, b"j" * 16, 7), (KEK, KEY_ID, 8)],
)
def test_a_slot_opens_in_its_place_only(kek: bytes, key_id: bytes, number: int) -> None:
    slot = wrap_slot(KEK, KEY, KEY_ID, 7, NONCE)
    with pytest.raises(VerificationError, match="expected a key wrapped for this slot"):
        unwrap_slot(kek, slot, key_id, number)


def test_refusals_of_slots() -> None:
    slot = wrap_slot(KEK, KEY, KEY_ID, (1 << 64) - 1, NONCE)
    with pytest.raises(
        MalformedError, match="a key-encryption key of 32 bytes, got 31"
    ):
        wrap_slot(KEK[1:], KEY, KEY_ID, 0, NONCE)
    with pytest.raises(MalformedError, match="a key of 32 bytes, got 31"):
        wrap_slot(KEK, KEY[1:], KEY_ID, 0, NONCE)
    with pytest.raises(MalformedError, match="a key id of 16 bytes, got 15"):
        wrap_slot(KEK, KEY, KEY_ID[1:], 0, NONCE)
    with pytest.raises(MalformedError, match="a nonce of 12 bytes, got 11"):
        wrap_slot(KEK, KEY, KEY_ID, 0, NONCE[1:])
    for number in (-1, 1 << 64):
        with pytest.raises(MalformedError, match="a slot number that fits in 64 bits"):
            wrap_slot(KEK, KEY, KEY_ID, number, NONCE)
    for wrong in (b"", slot[:-1], slot + b"\0"):
        with pytest.raises(MalformedError, match="a keyring slot of 64 bytes, got"):
            unwrap_slot(KEK, wrong, KEY_ID, 0)
    with pytest.raises(MalformedError, match="version 1 of sealed bytes, got 0"):
        unwrap_slot(KEK, bytes(64), KEY_ID, 0)
    with pytest.raises(MalformedError, match="a key-encryption key of 32 bytes"):
        unwrap_slot(b"", slot, KEY_ID, 0)


@given(st.binary(min_size=64, max_size=64))
def test_any_bytes_are_no_slot(data: bytes) -> None:
    for slot in (data, b"\x01" + data[1:61] + bytes(3)):
        with pytest.raises(AuditLogError):
            unwrap_slot(KEK, slot, KEY_ID, 0)


class Claimed(bytes):
    """Bytes that say they are as many as one likes: 2 GiB are too many to make."""

    claim = 0

    def __len__(self) -> int:
        return self.claim


def test_what_is_sealed_and_unsealed_ends_below_two_gib() -> None:
    text = Claimed(b"text")
    text.claim = MAX_PLAINTEXT
    sealed = Claimed(seal(KEY, KEY_ID, LEAF, R, text))
    text.claim += 1
    with pytest.raises(
        MalformedError, match=r"^expected at most 2147483631 bytes to s"
    ):
        seal(KEY, KEY_ID, LEAF, R, text)
    sealed.claim = MAX_PLAINTEXT + 49
    assert unseal(KEY, KEY_ID, LEAF, sealed) == b"text"
    sealed.claim += 1
    with pytest.raises(MalformedError, match="of 49 bytes to 2 GiB, got 2147483681 b"):
        unseal(KEY, KEY_ID, LEAF, sealed)


H, ID = b"h" * 32, b"i" * 16
REFUSALS: list[tuple[Callable[[], object], type[Exception], str]] = [
    (
        lambda: seal(H, H, H, H, b""),
        MalformedError,
        "expected a key id of 16 bytes, got 32",
    ),
    (
        lambda: seal(b"1", H, H, H, b""),
        MalformedError,
        "expected a key of 32 bytes, got 1",
    ),
    (
        lambda: seal(H, ID, b"1", H, b""),
        MalformedError,
        "expected a leaf hash of 32 bytes, got 1",
    ),
    (
        lambda: seal(H, ID, H, b"1", b""),
        MalformedError,
        "expected r of 32 bytes, got 1",
    ),
    (
        lambda: unseal(H, ID, H, bytes(48)),
        MalformedError,
        "expected sealed content of 49 bytes to 2 GiB, got 48 bytes",
    ),
    (
        lambda: unseal(H, ID, H, bytes(49)),
        MalformedError,
        "expected version 1 of sealed bytes, got 0",
    ),
    (
        lambda: unseal(H, ID, H, b"\1" + bytes(48)),
        VerificationError,
        (
            "expected content sealed under this key for this entry, got content of "
            "another key or entry, or changed bytes"
        ),
    ),
    (
        lambda: wrap_slot(b"1", H, ID, 0, bytes(12)),
        MalformedError,
        "expected a key-encryption key of 32 bytes, got 1",
    ),
    (
        lambda: wrap_slot(H, b"1", ID, 0, bytes(12)),
        MalformedError,
        "expected a key of 32 bytes, got 1",
    ),
    (
        lambda: wrap_slot(H, H, ID, 0, b"1"),
        MalformedError,
        "expected a nonce of 12 bytes, got 1",
    ),
    (
        lambda: wrap_slot(H, H, b"1", 0, bytes(12)),
        MalformedError,
        "expected a key id of 16 bytes, got 1",
    ),
    (
        lambda: wrap_slot(H, H, ID, -1, bytes(12)),
        MalformedError,
        "expected a slot number that fits in 64 bits",
    ),
    (
        lambda: wrap_slot(H, H, ID, 1 << 64, bytes(12)),
        MalformedError,
        "expected a slot number that fits in 64 bits",
    ),
    (
        lambda: unwrap_slot(H, b"1", ID, 0),
        MalformedError,
        "expected a keyring slot of 64 bytes, got 1",
    ),
    (
        lambda: unwrap_slot(H, bytes(64), ID, 0),
        MalformedError,
        "expected version 1 of sealed bytes, got 0",
    ),
    (
        lambda: unwrap_slot(H, b"\1" * 64, ID, 0),
        MalformedError,
        "expected zeros at the end of a keyring slot",
    ),
    (
        lambda: unwrap_slot(H, b"\1" + bytes(63), ID, 0),
        VerificationError,
        (
            "expected a key wrapped for this slot, got one of another "
            "key-encryption key, id or slot, or changed bytes"
        ),
    ),
    (
        lambda: unwrap_slot(b"1", b"\1" + bytes(63), ID, 0),
        MalformedError,
        "expected a key-encryption key of 32 bytes, got 1",
    ),
]


@pytest.mark.parametrize(
    ("call", "error", "message"), REFUSALS, ids=range(len(REFUSALS))
)
def test_a_refusal_says_what_was_expected_and_what_came(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    assert str(caught.value) == message
