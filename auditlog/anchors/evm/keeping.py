"""The chain as a witness: it keeps one history of each log, and shows another past.

A log halts for a proof only, never for what a node says. Either proves a claim:

- **Our own signature**: a transaction, signed by our account, that told the contract
  that very tree. Whoever lacks the account's key cannot make one, so one node is enough
  to show it, as a witness shows a checkpoint signed by the log.
- **A final block that several nodes agree on**, at least two and `agree`, and in its
  state that very tree, proven by hashes. For nodes that do not know old transactions.

The second is nothing that one node can bring about, and the only node of an operator
who names one cannot halt the log by it either.
"""

from auditlog.anchors.attestation import Consistency
from auditlog.anchors.evm.account import signer_of
from auditlog.anchors.evm.block import parse_header
from auditlog.anchors.evm.contract import ANCHORED, call_advance, origin_hash
from auditlog.anchors.evm.history import ChainHead, History
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.node import Mined, Node
from auditlog.anchors.evm.nodes import Nodes
from auditlog.anchors.evm.options import Options
from auditlog.anchors.evm.rlp import decode, decode_integer
from auditlog.anchors.evm.state import read_root
from auditlog.anchors.evm.wallet import Wallet
from auditlog.anchors.trust import Chain, Trust
from auditlog.core.checkpoint import Checkpoint
from auditlog.core.encoding import parse_base64
from auditlog.core.errors import AuditLogError, RollbackError, VerificationError
from auditlog.core.merkle import verify_consistency

__all__ = ["Keeping"]

_SPAN = 63
"""Blocks after the first of some second in which others of that second may be."""

_SECOND = 1_000_000
"""In microseconds."""

_TOLD = 4 + 3 * 32
"""Bytes of a call of `advance` that name method, origin, size and root."""


class Keeping:
    """Looks at the histories that the contract keeps, under one account."""

    def __init__(self, wallet: Wallet, options: Options, history: History) -> None:
        """Keep all three; nothing is asked yet."""
        self._wallet = wallet
        self._options = options
        self._history = history

    def check(self, checkpoint: Checkpoint, consistency: Consistency) -> int:
        """Check that what the contract knows is in our past, with every node.

        Returns:
            The size of the newest tree that it knows, once its block is final, else 0.

        Raises:
            RollbackError: it knows another past.
            VerificationError: all nodes say so, and none can prove it.
            AuditLogError: no node can be asked.
        """
        nodes = Nodes(self._options)
        return nodes.each(lambda node: self._look(node, checkpoint, consistency))[0]

    def _look(
        self, node: Node, checkpoint: Checkpoint, consistency: Consistency
    ) -> int:
        Nodes(self._options).check_contract(node)
        # In the newest block, as many nodes have no state of older ones. Whether it is
        # there for good follows from its time.
        head = self._history.read_head(node, checkpoint.origin)
        problem = _contradiction(head, checkpoint, consistency)
        if problem:
            self._prove_other_past(node, checkpoint.origin, head, problem)
        final = node.final_number(self._options.confirmations)
        return head.size if self._history.is_final(node, head, final) else 0

    def _prove_other_past(
        self, node: Node, origin: str, head: ChainHead, problem: str
    ) -> None:
        """Raise, whatever there is of proof.

        Raises:
            RollbackError: it is proven.
            VerificationError: it is not.
        """
        reasons = []
        for prove in (self._by_our_signature, self._by_agreement):
            try:
                proof = prove(node, origin, head)
            except AuditLogError as error:
                reasons.append(str(error))
            else:
                raise RollbackError(
                    f"the chain knows another past of this log: {problem}; {proof}"
                )
        raise VerificationError(
            f"{node.url} says that the chain knows another past of this log "
            f"({problem}), and cannot prove it: {'; '.join(reasons)}"
        )

    def _by_our_signature(self, node: Node, origin: str, head: ChainHead) -> str:
        """Return a proof that our account told the contract of a head, for a reader."""
        hashed, size = origin_hash(origin), head.size.to_bytes(32, "big")
        topics = (ANCHORED, self._wallet.address.rjust(32, b"\0"), hashed, size)
        first = _first_block(node, head.time)
        last = min(first + _SPAN, node.final_number(1))
        for found in node.emitters(self._options.contract, topics, first, last):
            raw = node.transaction(found)
            if self._tells(raw, call_advance(hashed, head.size, head.root, ())):
                return f"our account signed so in transaction 0x{found.hex()}"
        raise AuditLogError("no transaction of ours says so")

    def _tells(self, raw: bytes, call: bytes) -> bool:
        items = decode(raw[1:])
        assert not isinstance(items, bytes)
        said = items[5], bytes(items[7])[:_TOLD]  # type: ignore[arg-type]
        return (
            decode_integer(items[0]) == self._options.chain_id
            and said == (self._options.contract, call[:_TOLD])
            and signer_of(raw) == self._wallet.address
        )

    def _by_agreement(self, node: Node, origin: str, head: ChainHead) -> str:
        """Return a proof that a final block of several nodes has a head."""
        options, sender = self._options, self._wallet.address
        if len(options.nodes) < 2:
            raise AuditLogError("there is no other node to ask")
        number = node.final_number(options.confirmations)
        proof = self._history.prove_root_by(node, origin, head.size, number)
        block = keccak(parse_base64(proof["header"]))
        if not Nodes(options).agree(Mined(block, number, 0, True), 2):
            raise AuditLogError(f"too few nodes agree on block {number}")
        believed = Chain(
            node.url, options.chain_id, options.contract, (sender,), (block,)
        )
        trust = Trust(chains=(believed,))
        if read_root(sender, origin, head.size, proof, trust).root != head.root:
            raise AuditLogError(f"block {number} has no such tree")
        return f"it stands in block {number}, 0x{block.hex()}, as several nodes have it"


def _contradiction(
    head: ChainHead, checkpoint: Checkpoint, consistency: Consistency
) -> str:
    """Return how a head is not in the past of a log, empty if it is."""
    size = checkpoint.size
    if head.size == 0:
        return ""
    if head.size > size:
        return f"it has {head.size} entries there, and {size} here"
    proof = consistency(head.size, size) if head.size < size else ()
    try:
        verify_consistency(head.size, head.root, size, checkpoint.root, proof)
    except VerificationError:
        return f"it has another root of {head.size} entries there"
    return ""


def _first_block(node: Node, time: int) -> int:
    """Return the number of the first block that is not before a second."""
    first, last = 0, node.final_number(1)
    while first < last:
        middle = (first + last) // 2
        if parse_header(node.header(middle)).time < time * _SECOND:
            first = middle + 1
        else:
            last = middle
    return first
