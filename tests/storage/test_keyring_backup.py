"""The file of a keyring's backup: strict, whole, and for one log and key alone."""

import hmac
import os
from collections.abc import Callable
from hashlib import shake_256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    VerificationError,
)
from auditlog.storage.keyring_backup import Backup, BackupHead, BackupKey, format_backup
from auditlog.storage.vault_key import Generation

ORIGIN = "log.example/tests"
KEK = bytes(range(32))
GENERATIONS = (Generation(bytes(32), 3, 1), Generation(KEK, 2, 1))
HEAD = BackupHead(
    bytes(range(16)), ORIGIN, 1_800_000_000_000_000, 1_800_000_000_000_001
)
KEYS = [
    BackupKey(b"a" * 16, 0, "epoch", "2026-11-27", b"\1" * 64),
    BackupKey(b"b" * 16, 7, "index", "", b"\2" * 64),
    BackupKey(b"c" * 16, (1 << 32) - 1, "subject", "é" * 127, b"\3" * 64),
]


def made(
    head: BackupHead = HEAD, keys: list[BackupKey] = KEYS, kek: bytes = KEK
) -> bytes:
    return b"".join(format_backup(head, keys, kek))


def test_what_went_in_comes_out() -> None:
    backup = Backup(made(), ORIGIN, GENERATIONS)
    assert (backup.head, backup.kek, [*backup.each()]) == (HEAD, KEK, KEYS)
    empty = Backup(made(keys=[]), ORIGIN, GENERATIONS)
    assert [*empty.each()] == []


def test_the_key_encryption_key_is_not_in_it() -> None:
    assert KEK not in made()
    assert KEK.hex().encode() not in made()


def test_the_file_begins_with_its_version() -> None:
    assert made().startswith(b"auditlog/keyring-backup/v1\n\0\0\0")


@given(at=st.integers(0, len(made()) - 1), bit=st.integers(0, 7))
def test_one_bit_changed_anywhere_is_refused(at: int, bit: int) -> None:
    data = bytearray(made())
    data[at] ^= 1 << bit
    with pytest.raises((MalformedError, ConfigurationError, VerificationError)):
        Backup(bytes(data), ORIGIN, GENERATIONS)


@given(st.integers(0, len(made()) - 1))
def test_a_part_of_it_is_refused(size: int) -> None:
    with pytest.raises((MalformedError, VerificationError)):
        Backup(made()[:size], ORIGIN, GENERATIONS)


@given(
    st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(made()[:27].__add__))
)
def test_any_bytes_give_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(AuditLogError):
        Backup(data, ORIGIN, GENERATIONS)


def test_a_backup_of_another_log_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="of the log other, got one of log"):
        Backup(made(), "other", GENERATIONS)


def test_a_backup_under_another_key_is_refused() -> None:
    with pytest.raises(
        ConfigurationError, match="another key-encryption key: before a"
    ):
        Backup(made(), ORIGIN, GENERATIONS[:1])


def test_what_is_said_of_another_key_cannot_be_said_by_who_has_it_not() -> None:
    """The head names the right key, the rest was made with another one."""
    ours, theirs = made(), made(kek=bytes(32))
    size = len(ours) - 32
    for forged in (ours[:size] + theirs[size:], ours[:-1] + b"?", ours + b"?"):
        with pytest.raises(VerificationError, match="one that was changed or cut"):
            Backup(forged, ORIGIN, GENERATIONS)


def _signed_again(change: Callable[[bytes], bytes]) -> bytes:
    """Return other bytes with the right MAC: made by us, with a fault."""

    body = change(made()[:-32])
    key = shake_256(b"auditlog/backup-mac/v1\n" + KEK).digest(32)
    return body + hmac.digest(key, body, "sha256")


MALFORMED: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "another version": (lambda b: b.replace(b"/v1\n", b"/v2\n"), "keyring, version 1"),
    "a head that is longer": (lambda b: b[:27] + b"\0\1" + b[29:], "another length"),
    "a head of nothing": (lambda b: b[:27] + bytes(4) + b[31:], "another length of it"),
    "a head that is not canonical": (
        lambda b: b[:30] + bytes([b[30] + 1]) + b"{ " + b[32:],
        "in canonical JSON",
    ),
    "an id in capitals": (lambda b: b.replace(b"0c0d0e", b"0C0D0E"), "bytes in hex"),
    "a time before all time": (
        lambda b: b.replace(b":1800000000000000,", b":-800000000000000,"),
        "made of a backup from 0",
    ),
    "a field more": (lambda b: b.replace(b'"id"', b'"jd"'), "a backup with the fields"),
    "slots out of order": (
        lambda b: b.replace(b"b" * 16 + bytes(3) + b"\7", b"b" * 16 + bytes(4)),
        "in order of slots",
    ),
    "a key cut short": (lambda b: b[:-1], "a whole key at the end"),
    "a byte more": (lambda b: b + b"?", "a whole key at the end"),
    "a label that is no text": (
        lambda b: b.replace(b"2026-11-27", b"2026-11-2\xff"),
        "labels of keys in UTF-8",
    ),
    "a label that runs out of the file": (
        lambda b: b.replace(b"\xfe" + "é".encode(), b"\xff" + "é".encode()),
        "a whole key at the end",
    ),
}


@pytest.mark.parametrize("what", MALFORMED)
def test_a_backup_that_was_made_wrong_is_refused(what: str) -> None:
    change, message = MALFORMED[what]
    assert change(made()[:-32]) != made()[:-32]
    with pytest.raises(MalformedError, match=message):
        Backup(_signed_again(change), ORIGIN, GENERATIONS)


def test_a_label_without_measure_is_not_written() -> None:
    key = KEYS[0]._replace(label="x" * 256)
    with pytest.raises(MalformedError, match="at most 255 bytes of a key's label"):
        made(keys=[key])


def test_each_backup_is_under_a_mac_of_its_own_key() -> None:
    other = os.urandom(32)
    assert made()[-32:] != made(kek=other)[-32:]
    assert Backup(made(kek=other), ORIGIN, [Generation(other)]).kek == other
