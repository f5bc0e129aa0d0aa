"""What is signed and not final yet: every transaction for one digest, or one tree.

Pending evidence is JSON, bytes in base64::

    chain_id      number of the chain
    transactions  oldest first: {hash, nonce, raw, signed}

`raw` is the transaction as signed, `hash` its Keccak-256 hash, `nonce` its number among
those of the account, `signed` the second at which it was made. A transaction is stored
before it is sent, and none is ever dropped: any of them may still be mined. Of those of
one nonce only one can be.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from auditlog.anchors.evm.block import parse_blobs
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.rlp import decode, decode_integer
from auditlog.core.encoding import check_range, format_base64, parse_hash
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.record import MAX_INTEGER, check_fields

__all__ = [
    "MAX_TRANSACTIONS",
    "Transaction",
    "check_effort",
    "format_pending",
    "make_transaction",
    "parse_pending",
]

MAX_TRANSACTIONS = 64
"""The most that is signed for one digest or tree, replacements included."""

_MAX_RAW = 4096
_DYNAMIC_FEE = 2
"""The kind of transaction that is made (EIP-1559)."""

_REQUIRED = {"chain_id": int, "transactions": list}
_FIELDS = {"hash": str, "nonce": int, "raw": str, "signed": int}


class Transaction(NamedTuple):
    """One that was signed."""

    hash: bytes
    nonce: int
    tip: int
    """Wei for each gas that the block builder gets, at most."""
    fee: int
    """Wei for each gas, at most, tip included."""
    raw: bytes
    signed: int
    """Seconds since the epoch."""


def make_transaction(raw: bytes, signed: int) -> Transaction:
    """Return what a signed transaction says.

    Raises:
        MalformedError: it is none with a dynamic fee.
    """
    items = decode(raw[1:]) if raw[:1] == bytes([_DYNAMIC_FEE]) else b""
    if isinstance(items, bytes) or len(items) != 12:
        raise MalformedError("expected a transaction with a dynamic fee")
    nonce, tip, fee = (decode_integer(item) for item in items[1:4])
    return Transaction(keccak(raw), nonce, tip, fee, raw, signed)


def check_effort(transactions: tuple[Transaction, ...]) -> None:
    """Check that one more may be signed beside these.

    Raises:
        VerificationError: they are `MAX_TRANSACTIONS`.
    """
    if len(transactions) == MAX_TRANSACTIONS:
        raise VerificationError(
            f"gave up after {MAX_TRANSACTIONS} transactions for one digest or tree"
        )


def format_pending(
    chain_id: int, transactions: tuple[Transaction, ...]
) -> dict[str, Any]:
    """Return pending evidence."""
    return {
        "chain_id": chain_id,
        "transactions": [
            {
                "hash": format_base64(one.hash),
                "nonce": one.nonce,
                "raw": format_base64(one.raw),
                "signed": one.signed,
            }
            for one in transactions
        ],
    }


def parse_pending(evidence: Mapping[str, Any]) -> tuple[int, tuple[Transaction, ...]]:
    """Return the chain's number and the transactions of pending evidence.

    Raises:
        MalformedError: `format_pending` makes no such evidence.
    """
    fields = check_fields(dict(evidence), "pending evidence of kind evm", _REQUIRED)
    found = fields["transactions"]
    if not 0 < len(found) <= MAX_TRANSACTIONS:
        raise MalformedError(f"expected 1 to {MAX_TRANSACTIONS} transactions")
    return fields["chain_id"], tuple(_parse(one) for one in found)


def _parse(value: Any) -> Transaction:
    fields = check_fields(value, "a transaction", _FIELDS)
    (raw,) = parse_blobs([fields["raw"]], "a transaction", 1, _MAX_RAW)
    made = make_transaction(raw, check_range("a time", fields["signed"], MAX_INTEGER))
    if (parse_hash(fields["hash"]), fields["nonce"]) != (made.hash, made.nonce):
        raise MalformedError("expected hash and nonce of the transaction beside it")
    return made
