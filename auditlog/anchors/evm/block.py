"""Blocks that a verifier believes, and what their receipts and states say.

A block is named by the Keccak-256 hash of its header, which holds the hash of its
parent, the roots of the tries of its receipts and of all state, its number and its time
(Ethereum yellow paper §4.4). A trust file names blocks; from them, headers lead back.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.rlp import Item, decode, decode_integer
from auditlog.anchors.trust import Chain, Trust
from auditlog.core.encoding import parse_base64
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError

__all__ = [
    "MAX_HEADERS",
    "TOLERANCE",
    "Event",
    "Header",
    "believed",
    "parse_blobs",
    "parse_events",
    "parse_header",
]

MAX_HEADERS = 8192
"""Headers in the longest chain from a block to a trusted one: a day of Ethereum."""

MAX_HEADER = 2048
"""Bytes in the longest header; Ethereum's have some 600."""

TOLERANCE = 900 * 1_000_000
"""Microseconds by which a block's time may be behind. Ethereum fixes the time of each
block to its slot; one that is kept back for more than two epochs, 12.8 minutes, finds
no votes any more and never becomes final."""

_FIELDS = range(15, 33)  # 15 at first, each fork added some


class Header(NamedTuple):
    """What is read of a block header."""

    hash: bytes
    parent: bytes
    state_root: bytes
    receipts_root: bytes
    number: int
    time: int
    """Microseconds since the epoch."""


class Event(NamedTuple):
    """One log of a receipt."""

    contract: bytes
    topics: tuple[bytes, ...]
    data: bytes


def parse_header(data: bytes) -> Header:
    """Return what a header says, by its fields 0, 3, 5, 8 and 11.

    Raises:
        MalformedError: it is no header.
    """
    items = _fields(data)
    return Header(
        keccak(data),
        _bytes(items[0], 32),
        _bytes(items[3], 32),
        _bytes(items[5], 32),
        decode_integer(items[8]),
        decode_integer(items[11]) * 1_000_000,
    )


def _fields(data: bytes) -> Sequence[Item]:
    if len(data) > MAX_HEADER:
        raise MalformedError(f"expected a block header of up to {MAX_HEADER} bytes")
    items = decode(data)
    if isinstance(items, bytes) or len(items) not in _FIELDS:
        raise MalformedError("expected a block header of 15 or more fields")
    return items


def believed(
    evidence: Mapping[str, Any], trust: Trust
) -> tuple[Header, tuple[Chain, ...]]:
    """Return the block that evidence is about, and the tables that believe it.

    Args:
        evidence: with `chain_id`, `header`, and maybe `headers`: its child, the child
            of that, and so on, to a block that the trust file names.
        trust: of the verifier.

    Raises:
        MalformedError: a header is none.
        UntrustedError: the trust file does not name chain or block.
        VerificationError: the headers are not a chain.
    """
    chain_id = evidence["chain_id"]
    chains = [chain for chain in trust.chains if chain.chain_id == chain_id]
    if not chains:
        raise UntrustedError(f"the trust file names no chain {chain_id}")
    (data,) = parse_blobs([evidence["header"]], "headers", 1, MAX_HEADER)
    later: tuple[bytes, ...] = ()
    if "headers" in evidence:
        later = parse_blobs(evidence["headers"], "headers", MAX_HEADERS, MAX_HEADER)
        if not later:
            raise MalformedError("expected headers, or no such field")
    last = keccak(later[-1] if later else data)
    trusted = tuple(chain for chain in chains if last in chain.blocks)
    if not trusted:
        raise UntrustedError(
            f"the trust file does not name block 0x{last.hex()} of chain {chain_id}"
        )
    _check_descent([data, *later])
    return parse_header(data), trusted


def _check_descent(headers: Sequence[bytes]) -> None:
    """Walk back from the last, which is trusted, so that strangers cost no time."""
    for child, parent in zip(headers[:0:-1], headers[-2::-1], strict=True):
        if _fields(child)[0] != keccak(parent):
            raise VerificationError("expected each header to be the child of the last")


def parse_events(receipt: bytes) -> tuple[Event, ...]:
    """Return the events of a transaction that succeeded, from its receipt.

    A receipt is RLP of status, gas, bloom filter and logs; of newer kinds of
    transaction, after a byte that names the kind (EIP-2718).

    Raises:
        MalformedError: it is no receipt.
        VerificationError: the transaction failed.
    """
    typed = 0 < receipt[0] < 0x80
    items = decode(receipt[typed:])
    if isinstance(items, bytes) or len(items) != 4 or isinstance(items[3], bytes):
        raise MalformedError("expected a receipt of status, gas, bloom and logs")
    if items[0] != b"\x01":
        raise VerificationError("the transaction failed: its receipt has no status 1")
    return tuple(_event(log) for log in items[3])


def _event(item: Item) -> Event:
    if isinstance(item, bytes) or len(item) != 3 or isinstance(item[1], bytes):
        raise MalformedError("expected a log of address, topics and data")
    if not isinstance(item[2], bytes):
        raise MalformedError("expected the data of a log as bytes")
    topics = tuple(_bytes(topic, 32) for topic in item[1])
    return Event(_bytes(item[0], 20), topics, item[2])


def parse_blobs(values: Any, what: str, most: int, longest: int) -> tuple[bytes, ...]:
    """Return byte strings that stand as a list of base64 in evidence.

    Raises:
        MalformedError: too many, too long, or no base64.
    """
    if not isinstance(values, list) or len(values) > most:
        raise MalformedError(f"expected up to {most} {what}")
    for value in values:
        if type(value) is not str or len(value) > 4 * (longest // 3 + 1):
            raise MalformedError(f"expected {what} in base64, up to {longest} bytes")
    return tuple(parse_base64(value) for value in values)


def _bytes(item: Item, size: int) -> bytes:
    if not isinstance(item, bytes) or len(item) != size:
        raise MalformedError(f"expected {size} bytes in a block")
    return item
