"""The one history that the contract keeps of each log, and that nobody rewrites.

Once a head was advanced, the contract takes a new one only with a proof that it extends
the old one: it is a witness that nobody runs. It tells no time of a signed note, which
is what `EvmAnchor` is for; and it tells all the world SHA-256 of the origin, sizes and
roots.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from auditlog.anchors.evm.artifact import load_artifact
from auditlog.anchors.evm.block import parse_header
from auditlog.anchors.evm.contract import (
    ADDRESS,
    CODE_HASH,
    ERRORS,
    PROXY,
    SALT,
    call_advance,
    call_head,
    call_root_at,
    origin_hash,
)
from auditlog.anchors.evm.evidence import extend, prove_state
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.node import Node, NodeError
from auditlog.anchors.evm.nodes import Nodes
from auditlog.anchors.evm.options import Options
from auditlog.anchors.evm.pending import Transaction
from auditlog.anchors.evm.state import read_root
from auditlog.anchors.evm.wallet import Wallet
from auditlog.anchors.trust import Chain, Trust
from auditlog.core.encoding import check_range, parse_base64
from auditlog.core.errors import AuditLogError, ConfigurationError, VerificationError
from auditlog.core.record import MAX_INTEGER

__all__ = ["ChainHead", "History"]

_WORD = 32
_SECOND = 1_000_000
"""In microseconds."""


class ChainHead(NamedTuple):
    """The newest tree of a log that the contract knows."""

    size: int
    """Zero where it knows none."""
    root: bytes
    time: int
    """Seconds since the epoch."""
    strict: bool
    """Whether the contract asks for proofs, for ever."""


class History:
    """What one account told the contract, or will."""

    def __init__(self, wallet: Wallet, options: Options) -> None:
        """Keep both; nothing is asked yet."""
        self._wallet = wallet
        self._options = options

    def __repr__(self) -> str:
        return f"History({self._wallet!r})"

    def head(self, origin: str) -> ChainHead:
        """Return the newest tree of a log in the newest block, by one node."""
        nodes = Nodes(self._options)

        def read(node: Node) -> ChainHead:
            nodes.check_contract(node)
            return self.read_head(node, origin)

        return nodes.first(read)

    def read_head(self, node: Node, origin: str) -> ChainHead:
        """Return the newest tree of a log in the newest block, as a node says.

        Raises:
            AuditLogError: it says nothing of the kind.
        """
        contract, sender = self._options.contract, self._wallet.address
        hashed = origin_hash(origin)
        words = node.read(contract, call_head(sender, hashed))
        if len(words) != 3 * _WORD:
            raise AuditLogError(f"{node.url} gave no head of a log")
        size, moment, strict = (
            int.from_bytes(words[at : at + _WORD], "big") for at in (0, 32, 64)
        )
        if size > MAX_INTEGER:
            raise AuditLogError(f"{node.url} gave no head of a log")
        root = node.read(contract, call_root_at(sender, hashed, size))
        if len(root) != _WORD:
            raise AuditLogError(f"{node.url} gave no head of a log")
        return ChainHead(size, root, moment, bool(strict))

    def is_final(self, node: Node, head: ChainHead, final: int) -> bool:
        """Return whether a head of the newest block is there for good.

        It follows from its time, as many nodes have no state of older blocks.

        Args:
            node: who says so.
            head: what `read_head` returned.
            final: number of the newest final block.

        Raises:
            AuditLogError: the node gives no header of that block.
        """
        until = parse_header(node.header(final)).time
        # Blocks of one second may be several, which differ where not each is final.
        last = until + (self._options.confirmations == 1)
        return head.time * _SECOND < last

    def advance(
        self, origin: str, size: int, root: bytes, proof: Sequence[bytes], *, now: float
    ) -> bytes | None:
        """Let the contract move the head of a log, and check each step from then on.

        Repeated after a crash it does no harm: the contract takes the same tree twice.
        It is sent and forgotten; what a log tells the contract by itself is stored
        first, see `auditlog.anchors.evm.keeping`.

        Args:
            origin: of the log.
            size: entries in the tree, from 1.
            root: of the tree.
            proof: consistency proof from `head`; empty for the first tree.
            now: seconds since the epoch.

        Returns:
            The hash of the transaction; None if the contract knows the tree already.

        Raises:
            VerificationError: the contract refuses; the message names its error.
            ConfigurationError: the mode of this anchor is not ``advance``.
        """
        if self._options.mode != "advance":
            raise ConfigurationError(
                'expected mode = "advance": it publishes sizes and roots'
            )
        check_range("a size", size, MAX_INTEGER, 1)
        assert all(len(one) == _WORD for one in (root, *proof))
        nodes, hashed = Nodes(self._options), origin_hash(origin)

        def send(node: Node) -> bytes | None:
            nodes.check_contract(node)
            known = call_root_at(self._wallet.address, hashed, size)
            if node.read(self._options.contract, known) == root:
                return None
            call = call_advance(hashed, size, root, proof)
            return self.send(node, nodes, self._options.contract, call, now).hash

        return nodes.first(send)

    def deployed(self) -> bool:
        """Return whether the contract stands where it always does, as one node says.

        Raises:
            ConfigurationError: this anchor names another contract.
        """
        if self._options.contract != ADDRESS:
            raise ConfigurationError(
                f"expected contract as 0x{ADDRESS.hex()}, where it is deployed to, got "
                f"0x{self._options.contract.hex()}"
            )
        return Nodes(self._options).first(
            lambda node: keccak(node.code(ADDRESS)) == CODE_HASH
        )

    def deploy(self, *, now: float) -> bytes | None:
        """Deploy the contract, where it is not there yet, to the address it always has.

        Returns:
            The hash of the transaction, or None if the contract stands there, or is
            about to.

        Raises:
            ConfigurationError: the chain has no deployment proxy.
        """
        nodes = Nodes(self._options)

        def send(node: Node) -> bytes | None:
            if node.code(ADDRESS, "pending"):
                return None
            if not node.code(PROXY):
                raise ConfigurationError(
                    f"expected the deployment proxy at 0x{PROXY.hex()} of chain "
                    f"{self._options.chain_id}"
                )
            call = SALT + bytes.fromhex(load_artifact()["bytecode"][2:])
            return self.send(node, nodes, PROXY, call, now).hash

        return nodes.first(send)

    def prove_root(
        self, origin: str, size: int, *, block: int | None = None
    ) -> dict[str, Any]:
        """Return a proof of the root told for a size, or that none was told.

        `auditlog.anchors.evm.state` checks it.

        Args:
            origin: of the log.
            size: of the checkpoint.
            block: number of the block; None is the newest final one.
        """
        nodes = Nodes(self._options)

        def prove(node: Node) -> dict[str, Any]:
            nodes.check_contract(node)
            final = node.final_number(self._options.confirmations)
            number = final if block is None else block
            return self.prove_root_by(node, origin, size, number)

        return nodes.first(prove)

    def extend(self, evidence: Mapping[str, Any], block: int) -> dict[str, Any]:
        """Return evidence, or a proof, that leads to a later block that is trusted."""
        return Nodes(self._options).first(
            lambda node: extend(node, dict(evidence), block)
        )

    def prove_root_by(
        self, node: Node, origin: str, size: int, block: int
    ) -> dict[str, Any]:
        """Return a proof, checked as a verifier would who trusts the block."""
        chain_id, contract = self._options.chain_id, self._options.contract
        sender = self._wallet.address
        proof = prove_state(node, chain_id, contract, sender, origin, size, block)
        blocks = (keccak(parse_base64(proof["header"])),)
        believed = Chain(node.url, chain_id, contract, (sender,), blocks)
        try:
            read_root(sender, origin, size, proof, Trust(chains=(believed,)))
        except AuditLogError as error:
            raise AuditLogError(f"{node.url} has no proof: {error}") from None
        return proof

    def send(
        self,
        node: Node,
        nodes: Nodes,
        to: bytes,
        call: bytes,
        now: float,
    ) -> Transaction:
        """Sign and send what may be sent twice without harm.

        Args:
            node: who knows prices and numbers.
            nodes: who get it.
            to: the contract that is called.
            call: the call.
            now: seconds since the epoch.

        Raises:
            VerificationError: the contract refuses; the message names its error.
            AuditLogError: it could not be sent, or not for the price.
        """
        nonce = node.nonce(self._wallet.address, "pending")
        made = self.sign(node, nonce, to, call, now)
        if made is None or not nodes.send(made.raw):
            raise AuditLogError("the chain asks for more than max_fee")
        return made

    def sign(
        self,
        node: Node,
        nonce: int,
        to: bytes,
        call: bytes,
        now: float,
        over: Transaction | None = None,
    ) -> Transaction | None:
        """Sign as `Wallet.make` does, and send nothing.

        Raises:
            VerificationError: the contract refuses; the message names its error.
            AuditLogError: the node gives no useful answer.
        """
        try:
            return self._wallet.make(node, nonce, to, call, now, over)
        except NodeError as error:
            known = ERRORS.get(error.data[2:10])
            if known is None:
                raise
            raise VerificationError(f"the contract refuses: {known}") from None
