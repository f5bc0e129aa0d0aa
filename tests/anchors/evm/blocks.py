"""Blocks made up by the libraries that others use, for evidence about them."""

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

import rlp  # type: ignore[import-untyped]
from trie.hexary import HexaryTrie

from auditlog.anchors.evm.contract import (
    ADDRESS,
    BATCH,
    CODE_HASH,
    origin_hash,
    root_slot,
)
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.trust import Chain, Trust

__all__ = [
    "CHAIN_ID",
    "DIGEST",
    "SENDER",
    "TIME",
    "b64",
    "batch_log",
    "header",
    "make_receipt",
    "of_receipts",
    "of_storage",
    "trusting",
    "way",
]

CHAIN_ID = 1
DIGEST = bytes(range(32))
SENDER = b"\xaa" * 20
TIME = 1_795_000_000
"""Seconds, of every block."""

Log = tuple[bytes, Sequence[bytes], bytes]


class Storage(NamedTuple):
    """The root of all state, and proofs down to a slot."""

    state_root: bytes
    account: tuple[bytes, ...]
    storage: tuple[bytes, ...]


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def integer(value: int) -> bytes:
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def batch_log(
    digest: bytes = DIGEST, sender: bytes = SENDER, contract: bytes = ADDRESS
) -> Log:
    return contract, (BATCH, sender.rjust(32, b"\0"), digest), b""


def make_receipt(*logs: Log, status: bytes = b"\1", kind: int = 2) -> bytes:
    body = rlp.encode([status, integer(50_000), bytes(256), list(logs)])
    return bytes([kind] if kind else []) + bytes(body)


def header(
    *,
    parent: bytes = b"\1" * 32,
    state_root: bytes = b"\2" * 32,
    receipts_root: bytes = b"\3" * 32,
    number: int = 100,
    time: int = TIME,
) -> bytes:
    fixed: list[bytes] = [parent, keccak(rlp.encode([])), bytes(20), state_root]
    fixed += [b"\4" * 32, receipts_root, bytes(256), b"", integer(number)]
    fixed += [integer(30_000_000), integer(60_000), integer(time), b"extra"]
    return bytes(rlp.encode([*fixed, bytes(32), bytes(8), integer(10**9)]))


def of_receipts(receipts: Sequence[bytes], index: int, **fields: Any) -> dict[str, Any]:
    """Return evidence for one receipt of a block."""
    trie = HexaryTrie({})
    for number, receipt in enumerate(receipts):
        trie[rlp.encode(number)] = receipt
    root, proof = trie.root_hash, way(trie, rlp.encode(index))
    return {
        "chain_id": CHAIN_ID,
        "header": b64(header(receipts_root=root, **fields)),
        "proof": [b64(node) for node in proof],
        "tx_index": index,
    }


def of_storage(
    roots: dict[tuple[str, int], bytes],
    ask: tuple[str, int],
    code_hash: bytes = CODE_HASH,
    address: bytes = ADDRESS,
) -> Storage:
    """Return proofs of what a contract holds of `SENDER`'s roots by (origin, size)."""
    storage = HexaryTrie({})
    for (origin, size), root in roots.items():
        slot = root_slot(SENDER, origin_hash(origin), size)
        storage[keccak(slot)] = rlp.encode(root.lstrip(b"\0"))
    state = HexaryTrie({})
    for number in range(20):
        other = [integer(number), integer(10**18), b"\5" * 32, b"\6" * 32]
        state[keccak(bytes([number] * 20))] = rlp.encode(other)
    account = [integer(1), b"", storage.root_hash, code_hash]
    state[keccak(address)] = rlp.encode(account)
    asked = root_slot(SENDER, origin_hash(ask[0]), ask[1])
    down = way(storage, keccak(asked)) if roots else ()
    return Storage(state.root_hash, way(state, keccak(ADDRESS)), down)


def trusting(*headers: bytes, **fields: Any) -> Trust:
    """Return the trust file of somebody who believes these blocks."""
    chain: dict[str, Any] = {
        "party": "Ethereum",
        "chain_id": CHAIN_ID,
        "contract": ADDRESS,
        "senders": (SENDER,),
        "blocks": tuple(keccak(one) for one in headers),
    }
    return Trust(chains=(Chain(**{**chain, **fields}),))


def way(trie: HexaryTrie, key: bytes) -> tuple[bytes, ...]:
    """Return a proof without the nodes that stand in others, which it lists, too."""
    nodes = [rlp.encode(node) for node in trie.get_proof(key)]  # type: ignore[no-untyped-call]
    return (nodes[0], *(node for node in nodes[1:] if len(node) >= 32))
