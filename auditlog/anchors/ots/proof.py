r"""OpenTimestamps proofs: which bytes lead from a digest to what somebody attests.

A proof is a tree. Its root is the digest, each edge an operation on the bytes so far,
each leaf what somebody attests of the bytes there. It is written depth first, without
the digest (as `opentimestamps` does, whose documentation is its code)::

    node        = *(%xff item) item
    item        = end | operation node
    operation   = %x08                    ; SHA-256
                | (%xf0 | %xf1) varbytes  ; append, prepend
    end         = %x00 tag varbytes       ; "attestation"; tag: 8 bytes

Here it is the sorted set of its ways from root to leaf: nothing recurses, and merging
two proofs is a union. One set has one spelling: ends before operations, each in order,
no item twice in a node.

**Which operations.** To date a digest back, an old commitment must be reached from it
by bytes chosen today. Appending and prepending lose nothing, and through SHA-256 that
is a second preimage: these are honoured, and calendars use no others. The rest refuse
a proof: ``sha1`` is weak, ``ripemd160`` not in every OpenSSL, so that a verdict would
depend on the machine, ``keccak256`` is not in the standard library, and ``reverse`` and
``hexlify`` nobody needs.
"""

import hashlib
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

from auditlog.anchors.ots.wire import Reader, format_varbytes, format_varuint
from auditlog.core.errors import MalformedError

__all__ = [
    "BITCOIN",
    "MAX_PROOF",
    "PENDING",
    "SHA256",
    "End",
    "Operation",
    "Way",
    "append",
    "extend",
    "follow",
    "format_detached",
    "format_proof",
    "parse_canonical",
    "parse_proof",
]

MAX_PROOF = 1 << 17
"""Bytes in the longest proof; one over two calendars has a thousand."""
MAX_DEPTH = 255
"""Operations on the longest way; `opentimestamps` reads no longer ones."""
MAX_WAYS = 64
"""Attestations in one proof."""
MAX_MESSAGE = 4096
"""Bytes in the longest argument, and in what any operation gives."""

BITCOIN = bytes.fromhex("0588960d73d71901")
"""Tag of the end that says: these 32 bytes are the Merkle root of a block."""
PENDING = bytes.fromhex("83dfe30d2ef90c8e")
"""Tag of the end that says: ask this calendar later."""

_MAX_PAYLOAD = 8192
_MAX_URI = 1000
_MAX_HEIGHT = 999_999_999
_URI = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._/:")

_FORK = 0xFF
_END = 0x00
_SHA256 = 0x08
_APPEND = 0xF0
_PREPEND = 0xF1
_REFUSED = {
    0x02: "sha1",
    0x03: "ripemd160",
    0x67: "keccak256",
    0xF2: "reverse",
    0xF3: "hexlify",
}
_MAGIC = b"\x00OpenTimestamps\x00\x00Proof\x00\xbf\x89\xe2\xe8\x84\xe8\x92\x94\x01"


class Operation(NamedTuple):
    """An edge; sorts as the format wants it."""

    tag: int
    argument: bytes = b""
    """Of append and prepend: 1 to 4,096 bytes."""


class End(NamedTuple):
    """A leaf; sorts as the format wants it."""

    tag: bytes
    """`BITCOIN`, `PENDING`, or 8 bytes that we do not know, which prove nothing."""
    height: int = 0
    """Of a Bitcoin block."""
    payload: bytes = b""
    """URI of a calendar, or what stands under an unknown tag."""


class Way(NamedTuple):
    """One way from the digest to what is attested."""

    operations: tuple[Operation, ...]
    end: End


SHA256 = Operation(_SHA256)


def append(argument: bytes) -> Operation:
    """Return the operation that appends these bytes, 1 to 4,096."""
    return Operation(_APPEND, argument)


def follow(operations: Iterable[Operation], message: bytes) -> bytes:
    """Return what operations make of a message.

    Raises:
        MalformedError: more bytes come out of one than a proof may hold.
    """
    for operation in operations:
        message = _apply(operation, message)
    return message


def extend(operations: tuple[Operation, ...], tails: Iterable[Way]) -> tuple[Way, ...]:
    """Return the ways that begin with these operations and go on as `tails` do.

    Raises:
        MalformedError: one becomes longer than a proof may be.
    """
    longer = tuple(Way((*operations, *tail.operations), tail.end) for tail in tails)
    if any(len(one.operations) > MAX_DEPTH for one in longer):
        raise MalformedError(f"expected a proof of up to {MAX_DEPTH} operations")
    return longer


def parse_proof(data: bytes, message: bytes, limit: int = MAX_PROOF) -> tuple[Way, ...]:
    """Return the ways of a proof, sorted, whatever order they were written in.

    Args:
        data: the proof.
        message: the bytes at its root, 1 to 4,096.
        limit: bytes in the longest proof that is read.

    Raises:
        MalformedError: it is no proof, longer or deeper than allowed, or uses an
            operation that is not honoured.
    """
    if len(data) > limit:
        raise MalformedError(f"expected a proof of up to {limit} bytes")
    reader = Reader(data)
    found: set[Way] = set()
    unfinished: list[tuple[tuple[Operation, ...], bytes]] = []
    operations: tuple[Operation, ...] = ()
    while True:
        tag = reader.byte()
        if tag == _FORK:
            _check_room(len(unfinished) + len(found) + 2)
            unfinished.append((operations, message))
            tag = reader.byte()
        if tag != _END:
            operation = _parse_operation(tag, reader)
            operations, message = (*operations, operation), _apply(operation, message)
            if len(operations) > MAX_DEPTH:
                raise MalformedError(f"expected up to {MAX_DEPTH} operations in a row")
            continue
        found.add(Way(operations, _parse_end(reader)))
        if not unfinished:
            reader.end()
            return tuple(sorted(found, key=_order))
        operations, message = unfinished.pop()


def parse_canonical(data: bytes, message: bytes) -> tuple[Way, ...]:
    """Return the ways of a proof that `format_proof` wrote; see `parse_proof`.

    Raises:
        MalformedError: also where it is spelled in another way.
    """
    ways = parse_proof(data, message)
    if format_proof(ways) != data:
        raise MalformedError("expected the branches of a proof in order, none twice")
    return ways


def format_proof(ways: Iterable[Way]) -> bytes:
    """Return the one spelling of a set of ways, which is not empty.

    Raises:
        MalformedError: it has more ways or bytes than a proof may have.
    """
    rows = [_items(way) for way in sorted(set(ways), key=_order)]
    _check_room(len(rows))
    shared = [
        0,
        *(_shared(one, next_) for one, next_ in pairwise(rows)),
    ]
    data = bytearray()
    for number, items in enumerate(rows):
        forks = _forks(shared[number + 1 :])
        for depth in range(shared[number], len(items)):
            if depth in forks:
                data.append(_FORK)
            data += items[depth]
    if len(data) > MAX_PROOF:
        raise MalformedError(f"expected a proof of up to {MAX_PROOF} bytes")
    return bytes(data)


def format_detached(data: bytes, digest: bytes) -> bytes:
    """Return an ``.ots`` file, as other people's clients read it.

    Args:
        data: the proof.
        digest: SHA-256 of the file to which it belongs.
    """
    return _MAGIC + bytes([_SHA256]) + digest + data


def _apply(operation: Operation, message: bytes) -> bytes:
    match operation.tag:
        case 0xF0:
            message += operation.argument
        case 0xF1:
            message = operation.argument + message
        case _:
            message = hashlib.sha256(message).digest()
    if len(message) > MAX_MESSAGE:
        raise MalformedError(f"expected messages of up to {MAX_MESSAGE} bytes")
    return message


def _check_room(ways: int) -> None:
    if not 0 < ways <= MAX_WAYS:
        raise MalformedError(f"expected a proof of 1 to {MAX_WAYS} attestations")


def _order(way: Way) -> tuple[tuple[int, Operation | End], ...]:
    edges = ((1, operation) for operation in way.operations)
    return (*edges, (0, way.end))


def _items(way: Way) -> list[bytes]:
    operations = [
        bytes([one.tag]) + (format_varbytes(one.argument) if one.argument else b"")
        for one in way.operations
    ]
    tag, height, payload = way.end
    if tag == BITCOIN:
        payload = format_varuint(height)
    elif tag == PENDING:
        payload = format_varbytes(payload)
    return [*operations, bytes([_END]) + tag + format_varbytes(payload)]


def _shared(one: Sequence[bytes], other: Sequence[bytes]) -> int:
    """Return how many items two ways have in common before they part."""
    pairs = enumerate(zip(one, other, strict=False))
    return next(at for at, (left, right) in pairs if left != right)


def _forks(shared: Iterable[int]) -> set[int]:
    """Return the depths at which a later way still leaves this one."""
    found, lowest = set(), MAX_DEPTH
    for depth in shared:
        lowest = min(lowest, depth)
        found.add(lowest)
    return found


def _parse_operation(tag: int, reader: Reader) -> Operation:
    if tag == _SHA256:
        return SHA256
    if tag in {_APPEND, _PREPEND}:
        return Operation(tag, reader.varbytes(MAX_MESSAGE, 1))
    name = _REFUSED.get(tag, f"0x{tag:02x}")
    raise MalformedError(f"expected append, prepend or sha256 in a proof, got {name}")


def _parse_end(reader: Reader) -> End:
    tag = reader.take(8)
    payload = reader.varbytes(_MAX_PAYLOAD)
    inner = Reader(payload)
    if tag == BITCOIN:
        height = inner.varuint(_MAX_HEIGHT)
        inner.end()
        return End(tag, height)
    if tag == PENDING:
        payload = inner.varbytes(_MAX_URI)
        inner.end()
        if not _URI.issuperset(payload):
            raise MalformedError("expected a plain URI of a calendar in a proof")
    return End(tag, 0, payload)
