r"""Block headers of Bitcoin: 80 bytes, bound by work to the ones before and after.

::

    header = version(4) ‖ previous(32) ‖ merkle root(32) ‖ time(4) ‖ bits(4) ‖ nonce(4)
    hash   = SHA-256(SHA-256(header)), at most the target, both as little-endian numbers

What a verifier believes stands in their own trust file; `format_headers` writes its
table from the raw headers that a node of theirs gives. Work is checked at both places,
but only there against a floor: a header of no work is easily forged, and a file that
came from elsewhere must not pass, whereas a trust file may well name a test chain.
"""

import hashlib
import json
from collections.abc import Collection
from typing import NamedTuple

from auditlog.core.encoding import check_range
from auditlog.core.errors import MalformedError, VerificationError

__all__ = [
    "EASIEST",
    "HEADER_BYTES",
    "Header",
    "check_successor",
    "format_headers",
    "parse_header",
]

HEADER_BYTES = 80

EASIEST = 1 << 181
"""A target that no block of Bitcoin has exceeded since September 2019: a difficulty of
8.8 * 10^12, or 2^75 hashes for each forged header."""

_MAX_HEIGHT = 999_999_999


class Header(NamedTuple):
    """What a header says, and how much work it shows."""

    previous: bytes
    """Hash of the header before, 32 bytes as hashed (explorers reverse them)."""
    root: bytes
    """Merkle root of the transactions, in the same order."""
    time: int
    """Seconds since the epoch, by the miner's clock: see `check.TOLERANCE`."""
    target: int
    """What its hash had to undercut."""
    hash: bytes


def parse_header(data: bytes) -> Header:
    """Return a header whose own work holds.

    Raises:
        MalformedError: it has another size, or a target that is no number.
        VerificationError: its hash is above its own target.
    """
    if len(data) != HEADER_BYTES:
        raise MalformedError(f"expected a header of 80 bytes, got {len(data)}")
    target = _target(int.from_bytes(data[72:76], "little"))
    hash_ = hashlib.sha256(hashlib.sha256(data).digest()).digest()
    if int.from_bytes(hash_, "little") > target:
        raise VerificationError("expected a header with the work that it claims")
    time = int.from_bytes(data[68:72], "little")
    return Header(data[4:36], data[36:68], time, target, hash_)


def check_successor(header: Header, next_: Header) -> None:
    """Check that one header follows the other.

    Raises:
        VerificationError: it does not.
    """
    if next_.previous != header.hash:
        raise VerificationError("expected a header that names the one before it")


def format_headers(
    raw: bytes,
    first: int,
    *,
    party: str = "Bitcoin",
    keep: Collection[int] = (),
    easiest: int = EASIEST,
) -> str:
    """Return a ``[[bitcoin]]`` table for a trust file.

    All headers are checked, each against the one before. That says that somebody did
    the work, not that it is the chain that others follow: take them from a node of
    your own, or compare the last hash with several sources.

    Args:
        raw: headers one after another, 80 bytes each, as a node's REST interface
            (``/rest/headers/…``) and light wallets give them.
        first: height of the first.
        party: its name in verdicts.
        keep: heights to write; empty writes all.
        easiest: the largest target that is accepted; only for older blocks, or chains
            for tests, another one is needed.

    Raises:
        MalformedError: the bytes are no headers, or a height is not among them.
        VerificationError: one does not follow the one before, or shows too little work.
    """
    check_range("a height", first, _MAX_HEIGHT - len(raw) // HEADER_BYTES)
    if not raw or len(raw) % HEADER_BYTES:
        raise MalformedError(f"expected headers of 80 bytes, got {len(raw)} bytes")
    blocks = {
        first + at // HEADER_BYTES: raw[at : at + HEADER_BYTES]
        for at in range(0, len(raw), HEADER_BYTES)
    }
    _check_run(blocks, easiest)
    if not blocks.keys() >= set(keep):
        raise MalformedError(
            "expected only heights to keep for which a header is given"
        )
    lines = [f'{at} = "{blocks[at].hex()}"' for at in sorted(keep or blocks)]
    name = json.dumps(party, ensure_ascii=False)  # TOML has the same escapes
    head = f"[[bitcoin]]\nparty = {name}\n\n[bitcoin.headers]\n"
    return head + "\n".join(lines) + "\n"


def _check_run(blocks: dict[int, bytes], easiest: int) -> None:
    """Check the work of consecutive headers, and each against the one before."""
    before = None
    for height, data in blocks.items():
        try:
            header = parse_header(data)
            if before is not None:
                check_successor(before, header)
        except (MalformedError, VerificationError) as error:
            raise type(error)(f"header {height}: {error}") from None
        if header.target > easiest:
            raise VerificationError(
                f"header {height}: expected a target of {easiest.bit_length()} bits, "
                f"got {header.target.bit_length()}: it takes too little work to forge"
            )
        before = header


def _target(bits: int) -> int:
    """Return what the four bytes `bits` stand for: 24 bits and an exponent of 256."""
    exponent, mantissa = bits >> 24, bits & 0x7FFFFF
    target = mantissa << 8 * exponent >> 24
    if bits & 0x800000 or not 0 < target < 1 << 256:
        raise MalformedError("expected a header with a target from 1 to 2^256-1")
    return target
