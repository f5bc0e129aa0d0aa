"""Several nodes of one chain, until a deadline: one is asked, many must agree."""

import contextlib
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from auditlog.anchors.evm.block import parse_header
from auditlog.anchors.evm.contract import CODE_HASH
from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.node import Mined, Node, NodeError
from auditlog.anchors.evm.options import Options
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    RollbackError,
    VerificationError,
)

__all__ = ["Nodes"]

_T = TypeVar("_T")

_TOO_CHEAP = ("underpriced", "less than block base fee", "fee too low", "feetoolow")
_ON_ITS_WAY = (
    *("already known", "alreadyknown", "already imported", "known transaction"),
    "nonce too low",
)
"""As nodes say it: there is no other sign."""


class Nodes:
    """The nodes of some options, for one operation, which may take `timeout`."""

    def __init__(self, options: Options) -> None:
        """Give each node its share of the time from now on."""
        self._options = options
        share = options.timeout / len(options.nodes)
        start = time.monotonic()
        self._nodes = [
            Node(endpoint, start + share * number)
            for number, endpoint in enumerate(options.nodes, 1)
        ]

    def first(self, do: Callable[[Node], _T]) -> _T:
        """Do something with the first node with which it can be done.

        Raises:
            AuditLogError: as the first one says, those first that another try may mend.
        """
        failures: list[AuditLogError] = []
        for node in self._nodes:
            try:
                self._check_chain(node)
                return do(node)
            except AuditLogError as error:
                failures.append(error)
        raise _worth_most(failures)

    def each(self, do: Callable[[Node], _T]) -> list[_T]:
        """Do something with every node with which it can be done.

        Raises:
            RollbackError: as soon as one raises it.
            AuditLogError: it could be done with none; what one found wrong first, then
                as `first`.
        """
        done: list[_T] = []
        failures: list[AuditLogError] = []
        for node in self._nodes:
            try:
                self._check_chain(node)
                done.append(do(node))
            except RollbackError:
                raise
            except AuditLogError as error:
                failures.append(error)
        if not done:
            wrong = [one for one in failures if isinstance(one, VerificationError)]
            raise wrong[0] if wrong else _worth_most(failures)
        return done

    def agree(self, mined: Mined, least: int = 1) -> bool:
        """Return whether enough nodes hold a block for final.

        Args:
            mined: in the block.
            least: nodes, if the options ask for fewer.

        Raises:
            AuditLogError: they do not, and one has another in its place.
        """
        votes, other, enough = 0, None, max(least, self._options.agree)
        for node in self._nodes:
            try:
                if node.final_number(self._options.confirmations) < mined.number:
                    continue
                found = parse_header(node.header(mined.number)).hash
            except AuditLogError:
                continue
            if found == mined.block:
                votes += 1
            else:
                other = node.url
        if other and votes < enough:
            raise AuditLogError(
                f"{other} has another block {mined.number} than 0x{mined.block.hex()}"
            )
        return votes >= enough

    def confirm(self, node: Node, says: Callable[[Node], bool], what: str) -> None:
        """Check that enough nodes say what one of them has said.

        Args:
            node: who has said it.
            says: whether another one says it, too.
            what: it is, for a reader.

        Raises:
            AuditLogError: too few do.
        """
        votes = 1
        for other in self._nodes:
            if other is not node and votes < self._options.agree:
                with contextlib.suppress(AuditLogError):
                    self._check_chain(other)
                    votes += says(other)
        if votes < self._options.agree:
            raise AuditLogError(f"{node.url} says that {what}, and too few others do")

    def send(self, raw: bytes) -> bool:
        """Hand a transaction to all nodes; return whether none took it for too cheap.

        Raises:
            AuditLogError: no node took it, for another reason.
        """
        failures = []
        for node in self._nodes:
            try:
                node.send(raw)
            except AuditLogError as error:
                if not _says(error, _ON_ITS_WAY):
                    failures.append(error)
        if len(failures) < len(self._nodes):
            return True
        if any(_says(error, _TOO_CHEAP) for error in failures):
            return False
        raise AuditLogError(str(failures[0]))

    def check_contract(self, node: Node) -> None:
        """Check that the contract stands where the options say.

        Raises:
            ConfigurationError: it does not.
        """
        contract = self._options.contract
        if keccak(node.code(contract)) != CODE_HASH:
            raise ConfigurationError(
                f"expected the contract AuditAnchor at 0x{contract.hex()} of chain "
                f"{self._options.chain_id}"
            )

    def _check_chain(self, node: Node) -> None:
        found = node.chain_id()
        if found != self._options.chain_id:
            raise ConfigurationError(
                f"expected chain {self._options.chain_id}, {node.url} serves {found}"
            )


def _worth_most(failures: Sequence[AuditLogError]) -> AuditLogError:
    """Return the first one, those first that another try may mend."""
    kinds = (AuditLogError, NodeError)
    plain = [AuditLogError(str(one)) for one in failures if type(one) in kinds]
    return [*plain, *failures][0]


def _says(error: AuditLogError, phrases: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(phrase in text for phrase in phrases)
