"""Tells the contract the trees of a log, by transactions that are stored before sent.

As with a digest (`auditlog.anchors.evm.anchor`), `tell` signs and sends nothing, and
`follow` sends what it is given, and returns unsent what it signs in place of that. Of
those for one tree no two have different numbers, unless the number of the earlier ones
went to another transaction for good:

======================================  ==============================================
what `follow` finds                     what it does
======================================  ==============================================
number used up, tree known, for good    done
number used up, tree known              waits; a reorganisation may take it back
number used up for good, tree unknown   signs it with the next free number
number used up                          waits
number not used up                      sends it, again if need be
too cheap, or stuck                     signs the same for 1/8 more, up to `max_fee`
that, and the tree is known             signs a transfer of nothing to ourselves for
                                        1/8 more, so that the number comes free
======================================  ==============================================
"""

from collections.abc import Sequence
from typing import NamedTuple

from auditlog.anchors.attestation import Consistency
from auditlog.anchors.evm.contract import call_advance, origin_hash
from auditlog.anchors.evm.history import ChainHead, History
from auditlog.anchors.evm.node import Node
from auditlog.anchors.evm.nodes import Nodes
from auditlog.anchors.evm.options import Options
from auditlog.anchors.evm.pending import Transaction, check_effort
from auditlog.anchors.evm.rlp import decode
from auditlog.anchors.evm.wallet import Wallet
from auditlog.core.checkpoint import Checkpoint

__all__ = ["Telling", "Tree"]


class Tree(NamedTuple):
    """What is to be told."""

    checkpoint: Checkpoint
    consistency: Consistency
    """Of the log."""

    def call(self, known: int) -> bytes:
        """Return the call that tells it to a contract that knows so many entries."""
        origin, size, root = self.checkpoint
        proof = self.consistency(known, size) if known else ()
        return call_advance(origin_hash(origin), size, root, proof)


class Telling:
    """Has the contract keep the histories of logs, under one account."""

    def __init__(self, wallet: Wallet, options: Options, history: History) -> None:
        """Keep all three; nothing is asked yet."""
        self._wallet = wallet
        self._options = options
        self._history = history

    def tell(
        self, tree: Tree, waiting: Sequence[int], now: float
    ) -> Transaction | None:
        """Sign what tells the contract a tree, and send nothing.

        Args:
            tree: to be told.
            waiting: the number that it gets is none below these.
            now: seconds since the epoch.

        Returns:
            What is to be stored; None if the contract knows as much already.

        Raises:
            VerificationError: the contract refuses; the message names its error.
            AuditLogError: no node can be asked.
        """
        nodes = Nodes(self._options)

        def sign(node: Node) -> Transaction | None:
            nodes.check_contract(node)
            head = self._history.read_head(node, tree.checkpoint.origin)
            if head.size >= tree.checkpoint.size:
                return None
            nonce = max([node.nonce(self._wallet.address, "pending"), *waiting])
            return self._sign(node, head, tree, nonce, now)

        return nodes.first(sign)

    def follow(
        self, tree: Tree, transactions: tuple[Transaction, ...], now: float
    ) -> tuple[Transaction, ...] | None:
        """Send, follow and replace the transactions for one tree.

        Args:
            tree: that is told.
            transactions: all that were stored for it, oldest first.
            now: seconds since the epoch.

        Returns:
            What is to be stored for it from now on; None once nothing is left to do.

        Raises:
            VerificationError: the contract refuses, or they are too many.
            AuditLogError: no node can be asked, or takes it.
        """
        nodes = Nodes(self._options)

        def step(node: Node) -> tuple[Transaction, ...] | None:
            nodes.check_contract(node)
            number, size = transactions[-1].nonce, tree.checkpoint.size
            # Asked first: whoever used up a number by then has told the tree by then.
            used = self._used_up(node, number)
            head = self._history.read_head(node, tree.checkpoint.origin)
            if not used:
                made = self._chase(node, nodes, head, tree, transactions, now)
            elif head.size < size:
                what = f"number {number} is used up"
                nodes.confirm(node, lambda one: self._used_up(one, number), what)
                made = self._renumber(node, head, tree, transactions, now)
            elif not self._is_known(node, tree):
                made = None
            else:
                what = f"{size} entries are known for good"
                nodes.confirm(node, lambda one: self._is_known(one, tree), what)
                return None
            return transactions if made is None else (*transactions, made)

        return nodes.first(step)

    def _used_up(self, node: Node, number: int) -> bool:
        """Return whether a transaction of a number stands in a final block."""
        final = node.final_number(self._options.confirmations)
        return node.nonce(self._wallet.address, final) > number

    def _is_known(self, node: Node, tree: Tree) -> bool:
        """Return whether the contract knows a tree, or a larger one, for good."""
        final = node.final_number(self._options.confirmations)
        head = self._history.read_head(node, tree.checkpoint.origin)
        known = head.size >= tree.checkpoint.size
        return known and self._history.is_final(node, head, final)

    def _renumber(
        self,
        node: Node,
        head: ChainHead,
        tree: Tree,
        transactions: tuple[Transaction, ...],
        now: float,
    ) -> Transaction | None:
        """Sign it once more, with the next free number, if none of these has told it.

        A node may be several behind one address, of which one knows an older head.
        """
        if any(self._has_told(node, one) for one in transactions):
            return None
        check_effort(transactions)
        free = node.nonce(self._wallet.address, "pending")
        return self._sign(node, head, tree, free, now)

    def _has_told(self, node: Node, one: Transaction) -> bool:
        items = decode(one.raw[1:])
        assert not isinstance(items, bytes)  # `parse_pending` has seen to it
        mined = node.mined(one.hash) if items[5] == self._options.contract else None
        return mined is not None and mined.succeeded

    def _chase(
        self,
        node: Node,
        nodes: Nodes,
        head: ChainHead,
        tree: Tree,
        transactions: tuple[Transaction, ...],
        now: float,
    ) -> Transaction | None:
        """Send the newest transaction; return what must be stored in its place."""
        newest, address = transactions[-1], self._wallet.address
        if node.nonce(address, "latest") > newest.nonce:
            return None  # one used it up, but may lose it again
        stuck = now - newest.signed >= self._options.stuck_after
        if nodes.send(newest.raw) and not stuck:
            return None
        if node.nonce(address, "pending") < newest.nonce:
            return None  # where one before it is missing, no price helps
        check_effort(transactions)
        return self._sign(node, head, tree, newest.nonce, now, over=newest)

    def _sign(
        self,
        node: Node,
        head: ChainHead,
        tree: Tree,
        nonce: int,
        now: float,
        over: Transaction | None = None,
    ) -> Transaction | None:
        """Sign what tells a tree after a head; a transfer of nothing if it is known."""
        if head.size >= tree.checkpoint.size:
            to, call = self._wallet.address, b""
        else:
            to, call = self._options.contract, tree.call(head.size)
        return self._history.sign(node, nonce, to, call, now, over)
