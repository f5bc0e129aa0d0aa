"""Builds evidence out of what a node says, so that it can be checked without one."""

from typing import Any

from auditlog.anchors.evm.block import MAX_HEADERS, parse_header
from auditlog.anchors.evm.contract import origin_hash, root_slot
from auditlog.anchors.evm.node import Mined, Node
from auditlog.anchors.evm.rlp import encode, encode_integer
from auditlog.anchors.evm.trie import prove
from auditlog.core.encoding import format_base64, parse_base64
from auditlog.core.errors import AuditLogError

__all__ = ["extend", "prove_event", "prove_state"]


def prove_event(node: Node, chain_id: int, mined: Mined) -> dict[str, Any]:
    """Return evidence of what a transaction did; see `auditlog.anchors.evm.check`.

    Raises:
        AuditLogError: what the node says does not fit together.
    """
    data = node.header(mined.block)
    header = parse_header(data)
    receipts = node.receipts(mined.block)
    keys = [encode(encode_integer(number)) for number in range(len(receipts))]
    values = dict(zip(keys, receipts, strict=True))
    root, proof = prove(values, encode(encode_integer(mined.index)))
    if (header.hash, header.receipts_root) != (mined.block, root):
        raise AuditLogError(
            f"{node.url} gave receipts of block {header.number} that are not all, or "
            f"of a kind not known here"
        )
    return {
        "chain_id": chain_id,
        "header": format_base64(data),
        "proof": [format_base64(one) for one in proof],
        "tx_index": mined.index,
    }


def prove_state(
    node: Node,
    chain_id: int,
    contract: bytes,
    sender: bytes,
    origin: str,
    size: int,
    block: int,
) -> dict[str, Any]:
    """Return a proof of what a contract held; see `auditlog.anchors.evm.state`."""
    slot = root_slot(sender, origin_hash(origin), size)
    proof = node.state_proof(contract, slot, block)
    return {
        "account": [format_base64(one) for one in proof.account],
        "chain_id": chain_id,
        "header": format_base64(node.header(block)),
        "storage": [format_base64(one) for one in proof.storage],
    }


def extend(node: Node, evidence: dict[str, Any], block: int) -> dict[str, Any]:
    """Return evidence that leads to a later block, for those who trust that one.

    Raises:
        AuditLogError: the block is not later, or too much later.
    """
    headers = [parse_base64(one) for one in evidence.get("headers", [])]
    newest = parse_header(headers[-1] if headers else parse_base64(evidence["header"]))
    missing = block - newest.number
    if not 0 < missing <= MAX_HEADERS - len(headers):
        raise AuditLogError(
            f"expected one of the {MAX_HEADERS} blocks after the evidence's, got "
            f"{block}"
        )
    later = range(newest.number + 1, block + 1)
    headers.extend(node.header(number) for number in later)
    return {**evidence, "headers": [format_base64(one) for one in headers]}
