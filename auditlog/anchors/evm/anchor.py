"""Anchors digests by transactions to the contract `AuditAnchor` on an EVM chain.

A digest costs money, so nothing is sent that is not stored: `submit` signs and sends
nothing, `upgrade` sends what it is given, and what it signs in place of that it returns
unsent. So after each answer that is another one, store it, and call `upgrade` again.

====================================  ================================================
what `upgrade` finds                  what it does
====================================  ================================================
in a final block                      final: evidence, checked as a verifier would
in another block                      waits; a reorganisation may take it back
in no block                           sends it, again if need be
too cheap, or stuck                   signs the same for 1/8 more, up to `max_fee`
another transaction took its number,  signs it with the next free number
for good, or one before it is missing
====================================  ================================================

Of several nodes one is asked, the next one where it fails, and no block counts as final
before `agree` of them say the same hash.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auditlog.anchors.attestation import Attestation, Consistency
from auditlog.anchors.evm.account import Account
from auditlog.anchors.evm.check import check
from auditlog.anchors.evm.contract import call_batch
from auditlog.anchors.evm.evidence import prove_event
from auditlog.anchors.evm.history import History
from auditlog.anchors.evm.keeping import Keeping
from auditlog.anchors.evm.node import Mined, Node
from auditlog.anchors.evm.nodes import Nodes
from auditlog.anchors.evm.options import Options, parse_options
from auditlog.anchors.evm.pending import (
    Transaction,
    check_effort,
    format_pending,
    parse_pending,
)
from auditlog.anchors.evm.telling import Telling, Tree
from auditlog.anchors.evm.wallet import Wallet
from auditlog.anchors.trust import Chain, Trust
from auditlog.core.checkpoint import Checkpoint
from auditlog.core.errors import AuditLogError, ConfigurationError

__all__ = ["EvmAnchor", "configure"]


class EvmAnchor:
    """The `Anchor` of kind `evm`: one account, one contract, one or more nodes.

    With the mode ``advance`` it is a `HistoryKeeper`, too.
    """

    def __init__(self, name: str, options: Options) -> None:
        """Find out the account's address; no node is asked.

        Raises:
            ConfigurationError: the key cannot be used.
        """
        self._name = name
        self._options = options
        self._wallet = Wallet(Account(options.key_file), options)
        self.history = History(self._wallet, options)
        """What the contract can do beside: `History.advance`, `History.deploy`."""
        self._keeping = Keeping(self._wallet, options, self.history)
        self._telling = Telling(self._wallet, options, self.history)

    def __repr__(self) -> str:
        return f"EvmAnchor({self.name!r}, 0x{self.address.hex()})"

    @property
    def name(self) -> str:
        """As `Anchor.name`."""
        return self._name

    @property
    def kind(self) -> str:
        """As `Anchor.kind`."""
        return "evm"

    @property
    def address(self) -> bytes:
        """Whose transactions these are, 20 bytes: a sender of the trust file."""
        return self._wallet.address

    def believed(self, *blocks: bytes) -> Chain:
        """Return what a trust file says of this account, which believes some blocks."""
        options = self._options
        return Chain(
            self.name, options.chain_id, options.contract, (self.address,), blocks
        )

    def submit(
        self, digest: bytes, pending: Sequence[Attestation], *, now: float
    ) -> Attestation:
        """Sign a transaction that holds a digest; see `Anchor.submit`."""
        waiting = self._waiting(pending)
        nodes = Nodes(self._options)

        def sign(node: Node) -> Attestation:
            nodes.check_contract(node)
            nonce = max([node.nonce(self.address, "pending"), *waiting])
            made = self._sign(node, digest, nonce, now)
            # Without another to replace, the price is never over `max_fee`.
            assert made is not None
            return self._pending((made,))

        return nodes.first(sign)

    def upgrade(
        self, digest: bytes, attestation: Attestation, *, now: float
    ) -> Attestation:
        """Send, follow and replace transactions; see `Anchor.upgrade`."""
        if attestation.state == "final":
            return attestation
        transactions = self._parse(attestation)
        nodes = Nodes(self._options)

        def follow(node: Node) -> Attestation:
            # Asked first: whoever used up a number by then has its block by then.
            final = node.final_number(self._options.confirmations)
            used = node.nonce(self.address, final)
            for transaction in reversed(transactions):
                mined = node.mined(transaction.hash)
                if mined is None:
                    continue
                if not nodes.agree(mined):
                    return attestation
                if mined.succeeded:
                    return self._conclude(node, digest, mined)
            made = self._chase(node, nodes, digest, transactions, used, now)
            return self._pending((*transactions, made)) if made else attestation

        return nodes.first(follow)

    def check_history(self, checkpoint: Checkpoint, consistency: Consistency) -> int:
        """As `HistoryKeeper.check_history`, by the contract."""
        if self._options.mode != "advance":
            return checkpoint.size
        return self._keeping.check(checkpoint, consistency)

    def tell_history(
        self,
        checkpoint: Checkpoint,
        consistency: Consistency,
        pending: Sequence[Attestation],
        *,
        now: float,
    ) -> Attestation | None:
        """Sign a transaction that tells a tree; see `HistoryKeeper.tell_history`."""
        if self._options.mode != "advance":
            return None
        tree = Tree(checkpoint, consistency)
        made = self._telling.tell(tree, self._waiting(pending), now)
        return None if made is None else self._pending((made,))

    def follow_history(
        self,
        checkpoint: Checkpoint,
        consistency: Consistency,
        attestation: Attestation,
        *,
        now: float,
    ) -> Attestation:
        """Send, follow and replace it; see `HistoryKeeper.follow_history`."""
        if attestation.state == "final":
            return attestation
        transactions = self._parse(attestation)
        tree = Tree(checkpoint, consistency)
        left = self._telling.follow(tree, transactions, now)
        if left is None:
            return Attestation(self.kind, "final", attestation.evidence)
        return attestation if left == transactions else self._pending(left)

    def _waiting(self, pending: Sequence[Attestation]) -> list[int]:
        """Return the numbers that come after those which are stored with something."""
        return [
            transaction.nonce + 1
            for attestation in pending
            for transaction in self._parse(attestation)
        ]

    def _chase(
        self,
        node: Node,
        nodes: Nodes,
        digest: bytes,
        transactions: tuple[Transaction, ...],
        used: int,
        now: float,
    ) -> Transaction | None:
        """See to it that a digest gets mined; return what else must be stored first.

        Args:
            node: who is asked.
            nodes: who gets the transaction.
            digest: what is anchored.
            transactions: all that hold it; the newest is the one that counts.
            used: how many numbers of the account are used up in final blocks.
            now: seconds since the epoch.
        """
        newest = transactions[-1]
        if used > newest.nonce:
            check_effort(transactions)
            free = node.nonce(self.address, "pending")
            return self._sign(node, digest, free, now)
        if node.nonce(self.address, "latest") > newest.nonce:
            return None  # another one used it up, but may lose it again
        stuck = now - newest.signed >= self._options.stuck_after
        if nodes.send(newest.raw) and not stuck:
            return None
        check_effort(transactions)
        free = node.nonce(self.address, "pending")
        if stuck and free < newest.nonce:
            return self._sign(node, digest, free, now)
        return self._sign(node, digest, newest.nonce, now, over=newest)

    def _sign(
        self,
        node: Node,
        digest: bytes,
        nonce: int,
        now: float,
        over: Transaction | None = None,
    ) -> Transaction | None:
        contract = self._options.contract
        return self._wallet.make(node, nonce, contract, call_batch(digest), now, over)

    def _conclude(self, node: Node, digest: bytes, mined: Mined) -> Attestation:
        """Return final evidence, checked as a verifier would who trusts the block."""
        options = self._options
        senders, blocks = (self.address,), (mined.block,)
        believed = Chain(node.url, options.chain_id, options.contract, senders, blocks)
        evidence = prove_event(node, options.chain_id, mined)
        try:
            check(digest, evidence, Trust(chains=(believed,)))
        except AuditLogError as error:
            # The node's fault, and another one may know better.
            raise AuditLogError(f"{node.url} has no evidence: {error}") from None
        return Attestation(self.kind, "final", evidence)

    def _parse(self, attestation: Attestation) -> tuple[Transaction, ...]:
        chain_id, transactions = parse_pending(attestation.evidence)
        if chain_id != self._options.chain_id:
            raise ConfigurationError(
                f"anchor {self.name} is of chain {self._options.chain_id}, and was of "
                f"{chain_id} when it signed what is pending"
            )
        return transactions

    def _pending(self, transactions: tuple[Transaction, ...]) -> Attestation:
        evidence = format_pending(self._options.chain_id, transactions)
        return Attestation(self.kind, "pending", evidence)


def configure(name: str, options: Mapping[str, Any], directory: Path) -> EvmAnchor:
    """Return the anchor of a table of ``anchors.toml``; see `options`.

    Args:
        name: of the anchor.
        options: the table, without `kind` and `name`.
        directory: the log's, where file names start.

    Raises:
        ConfigurationError: a key is missing, unknown or unusable.
    """
    return EvmAnchor(name, parse_options(options, directory))
