"""Checks evidence of kind `evm`: a block holds the event of a contract, of a sender.

Evidence is JSON, bytes in base64::

    chain_id  number of the chain (EIP-155)
    header    RLP of the block's header
    headers?  RLP of its child, of the child's child, …, the last one a trusted block
    proof     nodes of the receipts trie, from its root to the receipt
    tx_index  position of the transaction in the block

What is believed comes from the trust file: the hash of a block, the contract, and who
may speak for the operator. No node is asked.

An event ``Batch`` binds the digest, and so a signed note. ``Anchored``, which comes of
`anchor` and `advance`, binds a root but no signature: it gives no time here. What it is
good for, that there is one history only, `auditlog.anchors.evm.state` shows.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from auditlog.anchors.attestation import Bound
from auditlog.anchors.evm.block import (
    TOLERANCE,
    Event,
    Header,
    believed,
    parse_blobs,
    parse_events,
)
from auditlog.anchors.evm.contract import BATCH
from auditlog.anchors.evm.rlp import encode, encode_integer
from auditlog.anchors.evm.trie import MAX_NODE, MAX_PROOF, look_up
from auditlog.anchors.trust import Chain, Trust
from auditlog.core.encoding import check_range
from auditlog.core.errors import UntrustedError, VerificationError
from auditlog.core.record import MAX_INTEGER, check_fields

__all__ = ["check"]

MAX_INDEX = (1 << 16) - 1
"""Position of the last transaction that is believed in a block."""

_REQUIRED = {"chain_id": int, "header": str, "proof": list, "tx_index": int}
_OPTIONAL = {"headers": list}


def check(digest: bytes, evidence: Mapping[str, Any], trust: Trust) -> Bound:
    """Return the time before which `digest` existed.

    That is the time of the block, and `TOLERANCE` more.

    Raises:
        MalformedError: the evidence does not follow its format.
        UntrustedError: the trust file does not name chain, block, contract or sender.
        VerificationError: no such event stands in the block.
    """
    fields = check_fields(dict(evidence), "evidence of kind evm", _REQUIRED, _OPTIONAL)
    check_range("a chain id", fields["chain_id"], MAX_INTEGER, 1)
    index = check_range("a transaction index", fields["tx_index"], MAX_INDEX)
    proof = parse_blobs(fields["proof"], "trie nodes", MAX_PROOF, MAX_NODE)
    header, chains = believed(fields, trust)
    receipt = look_up(header.receipts_root, encode(encode_integer(index)), proof)
    if receipt is None:
        raise VerificationError(f"block {header.number} has no transaction {index}")
    chain = _speaker(digest, parse_events(receipt), chains)
    return Bound("evm", chain.party, header.time + TOLERANCE, _detail(header, fields))


def _speaker(digest: bytes, events: Sequence[Event], chains: Sequence[Chain]) -> Chain:
    """Return the table that believes contract and sender of an event of the digest."""
    others = False
    for event in events:
        if len(event.topics) != 3 or (*event.topics[::2], event.data) != (
            BATCH,
            digest,
            b"",
        ):
            continue
        others = True
        for chain in chains:
            senders = [sender.rjust(32, b"\0") for sender in chain.senders]
            if event.contract == chain.contract and event.topics[1] in senders:
                return chain
    if others:
        raise UntrustedError(
            "the digest was anchored by a contract or a sender that the trust file "
            "does not name"
        )
    raise VerificationError("the transaction did not anchor this digest")


def _detail(header: Header, fields: Mapping[str, Any]) -> str:
    return (
        f"block {header.number} of chain {fields['chain_id']}, "
        f"transaction {fields['tx_index']}"
    )
