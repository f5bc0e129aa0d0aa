r"""The contract `AuditAnchor` as others see it: names, calls, events, storage.

`AuditAnchor.sol` is its source, `AuditAnchor.json` what the compiler makes of it. It is
deployed through the proxy that stands on nearly every chain (CREATE2, EIP-1014), so the
same code has the same address everywhere::

    ADDRESS = last 20 bytes of keccak(0xff ‖ PROXY ‖ SALT ‖ keccak(bytecode))

Whoever trusts `ADDRESS` trusts that code. An origin stands on chain as SHA-256 of its
text. Every constant here is held to source and compiler by a test.
"""

import hashlib
from collections.abc import Sequence

from auditlog.anchors.evm.keccak import keccak

__all__ = [
    "ADDRESS",
    "ANCHORED",
    "BATCH",
    "CODE_HASH",
    "ERRORS",
    "PROXY",
    "SALT",
    "call_advance",
    "call_batch",
    "call_head",
    "call_root_at",
    "head_slot",
    "origin_hash",
    "root_slot",
]

PROXY = bytes.fromhex("4e59b44847b379578588920ca78fbf26c0b4956c")
"""The deployment proxy: takes a salt and a contract's bytecode."""

SALT = bytes(32)

ADDRESS = bytes.fromhex("1c9b51e5accdc4ec4b545bc919b34b2789411920")
"""Where the contract stands on a chain on which it was deployed through `PROXY`."""

CODE_HASH = bytes.fromhex(
    "c0a86dff3f63f6979394016cc74f9e9a46dcaecba66e818d1388da5eeba71b5f"
)
"""Keccak-256 of the code that stands there."""

BATCH = bytes.fromhex(
    "5e53fce2c7bce25f035b98c043ed2d39860b2bb4d5e7f1ecd6d208d32c12d6a6"
)
"""Topic of ``Batch(address sender, bytes32 digest)``, both indexed."""

ANCHORED = bytes.fromhex(
    "3d0c97912257c6ad70e8f6fc81ae518ad3e14734d308b512c2729cc637a4b0b1"
)
"""Topic of ``Anchored(address sender, bytes32 origin, uint64 size, bytes32 root)``."""

ERRORS = {
    "3db2a12a": "Empty",
    "9a5e97dd": "Inconsistent",
    "b2b809d1": "ProofNeeded",
    "e5518207": "Shrinking",
    "472d592e": "SplitView",
}
"""Custom errors by selector, in hex."""

_HEAD_SLOT, _ROOT_AT_SLOT = 0, 1


def origin_hash(origin: str) -> bytes:
    """Return what stands for an origin on chain."""
    return hashlib.sha256(origin.encode()).digest()


def call_batch(digest: bytes) -> bytes:
    """Return the call ``batch(digest)``."""
    return bytes.fromhex("fddaa065") + digest


def call_advance(
    origin: bytes, size: int, root: bytes, proof: Sequence[bytes]
) -> bytes:
    """Return the call ``advance(origin, size, root, proof)``."""
    head = (origin, _word(size), root, _word(4 * 32), _word(len(proof)))
    return bytes.fromhex("f2fc86c9") + b"".join((*head, *proof))


def call_head(sender: bytes, origin: bytes) -> bytes:
    """Return the call ``head(sender, origin)``: three words, see the source."""
    return bytes.fromhex("24e8393d") + sender.rjust(32, b"\0") + origin


def call_root_at(sender: bytes, origin: bytes, size: int) -> bytes:
    """Return the call ``rootAt(sender, origin, size)``."""
    return bytes.fromhex("a8a320a6") + sender.rjust(32, b"\0") + origin + _word(size)


def head_slot(sender: bytes, origin: bytes) -> bytes:
    """Return the storage slot of a head."""
    return keccak(origin + _of_sender(sender, _HEAD_SLOT))


def root_slot(sender: bytes, origin: bytes, size: int) -> bytes:
    """Return the storage slot of the root that was anchored for a size."""
    return keccak(_word(size) + keccak(origin + _of_sender(sender, _ROOT_AT_SLOT)))


def _of_sender(sender: bytes, slot: int) -> bytes:
    return keccak(sender.rjust(32, b"\0") + _word(slot))


def _word(value: int) -> bytes:
    return value.to_bytes(32, "big")
