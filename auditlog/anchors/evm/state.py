"""What the contract holds at a block: that a root was anchored for a size, or none.

The roots are written once, so any later block shows them. With absence, an operator
shows that it never anchored a checkpoint of some size before that block; with presence
of another root, anybody shows that it did, beside the history that it tells now.

A proof is JSON, bytes in base64: `chain_id`, `header`, `headers`? as in
`auditlog.anchors.evm.check`, and two proofs of tries::

    account  from the block's state root to the contract, by the hash of its address
    storage  from the contract's storage root to the slot, by the hash of the slot
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from auditlog.anchors.evm.block import Header, believed, parse_blobs
from auditlog.anchors.evm.contract import CODE_HASH, origin_hash, root_slot
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.rlp import decode
from auditlog.anchors.evm.trie import MAX_NODE, MAX_PROOF, look_up
from auditlog.anchors.trust import Chain, Trust
from auditlog.core.encoding import check_range
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from auditlog.core.record import MAX_INTEGER, check_fields

__all__ = ["Slot", "read_root", "verify_absence", "verify_presence"]

_REQUIRED = {"account": list, "chain_id": int, "header": str, "storage": list}
_OPTIONAL = {"headers": list}


class Slot(NamedTuple):
    """What a contract held at a block."""

    root: bytes | None
    """32 bytes; None where no root of that size was anchored before the block."""
    party: str
    """Of the trust file."""
    block: int
    time: int
    """Microseconds since the epoch, as the block says."""


def read_root(
    sender: bytes, origin: str, size: int, proof: Mapping[str, Any], trust: Trust
) -> Slot:
    """Return the root that a sender had anchored for a size of a log, or that none was.

    Args:
        sender: address of the operator, 20 bytes; the trust file must name it.
        origin: of the log.
        size: of the checkpoint, from 1.
        proof: see the module.
        trust: of the verifier.

    Raises:
        MalformedError: the proof does not follow its format.
        UntrustedError: the trust file does not name chain, block or sender.
        VerificationError: the proof proves nothing about the contract.
    """
    fields = check_fields(dict(proof), "a proof of state", _REQUIRED, _OPTIONAL)
    check_range("a chain id", fields["chain_id"], MAX_INTEGER, 1)
    check_range("a size", size, MAX_INTEGER, 1)
    account = parse_blobs(fields["account"], "trie nodes", MAX_PROOF, MAX_NODE)
    storage = parse_blobs(fields["storage"], "trie nodes", MAX_PROOF, MAX_NODE)
    header, chains = believed(fields, trust)
    chain = next((one for one in chains if sender in one.senders), None)
    if chain is None:
        raise UntrustedError(f"the trust file does not name sender 0x{sender.hex()}")
    root = _storage_root(header, chain, account)
    slot = root_slot(sender, origin_hash(origin), size)
    value = look_up(root, keccak(slot), storage)
    held = None if value is None else _word(value)
    return Slot(held, chain.party, header.number, header.time)


def verify_absence(
    sender: bytes, origin: str, size: int, proof: Mapping[str, Any], trust: Trust
) -> Slot:
    """Check that a sender had anchored no root for a size of a log; see `read_root`.

    Raises:
        VerificationError: it had.
    """
    slot = read_root(sender, origin, size, proof, trust)
    if slot.root is not None:
        raise VerificationError(
            f"root {slot.root.hex()} of size {size} was anchored by block {slot.block}"
        )
    return slot


def verify_presence(
    sender: bytes,
    origin: str,
    size: int,
    root: bytes,
    proof: Mapping[str, Any],
    trust: Trust,
) -> Slot:
    """Check that a sender had anchored this root for a size; see `read_root`.

    Raises:
        VerificationError: it had not, or another root, which shows a split view.
    """
    slot = read_root(sender, origin, size, proof, trust)
    if slot.root is None:
        raise VerificationError(
            f"no root of size {size} was anchored by block {slot.block}"
        )
    if slot.root != root:
        raise VerificationError(
            f"split view: root {slot.root.hex()} of size {size} was anchored, "
            f"expected {root.hex()}"
        )
    return slot


def _storage_root(header: Header, chain: Chain, proof: tuple[bytes, ...]) -> bytes:
    value = look_up(header.state_root, keccak(chain.contract), proof)
    if value is None:
        raise VerificationError(f"block {header.number} has no such contract")
    items = decode(value)
    if isinstance(items, bytes) or len(items) != 4 or not isinstance(items[2], bytes):
        raise MalformedError("expected an account of four fields")
    # Another code would keep other things in that slot.
    if items[3] != CODE_HASH:
        raise VerificationError("the contract at that address is not AuditAnchor")
    return items[2]


def _word(value: bytes) -> bytes:
    item = decode(value)
    if not isinstance(item, bytes) or not 0 < len(item) <= 32 or item[0] == 0:
        raise MalformedError("expected a storage slot of up to 32 bytes")
    return item.rjust(32, b"\0")
