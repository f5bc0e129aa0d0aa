"""Makes transactions at the price of the day, and signs them."""

from auditlog.anchors.evm.account import Account
from auditlog.anchors.evm.node import Node
from auditlog.anchors.evm.options import GWEI, Options
from auditlog.anchors.evm.pending import Transaction, make_transaction
from auditlog.core.errors import AuditLogError

__all__ = ["Wallet"]

_DEFAULT_TIP = GWEI
_MAX_GAS = 3_000_000
"""More than any call takes; the deployment takes less than a million."""


class Wallet:
    """An account and what it may spend."""

    def __init__(self, account: Account, options: Options) -> None:
        """Keep both."""
        self._account = account
        self._options = options

    def __repr__(self) -> str:
        return f"Wallet({self._account!r})"

    @property
    def address(self) -> bytes:
        """Of the account, 20 bytes."""
        return self._account.address

    def make(
        self,
        node: Node,
        nonce: int,
        to: bytes,
        call: bytes,
        now: float,
        over: Transaction | None = None,
    ) -> Transaction | None:
        """Return a signed transaction, or None where it would cost more than it may.

        Args:
            node: who knows prices.
            nonce: the transaction's number among those of the account.
            to: the contract that is called.
            call: the call.
            now: seconds since the epoch.
            over: one of the same nonce, to be replaced.

        Raises:
            NodeError: the call would fail.
        """
        tip, fee = self._prices(node, over)
        if fee > self._options.max_fee:
            return None
        gas = node.gas(self.address, to, call) * 5 // 4
        if gas > _MAX_GAS:
            raise AuditLogError(f"{node.url} wants {gas} gas, more than any call takes")
        raw = self._account.sign(
            {
                "chainId": self._options.chain_id,
                "data": call,
                "gas": gas,
                "maxFeePerGas": fee,
                "maxPriorityFeePerGas": tip,
                "nonce": nonce,
                "to": to,
                "type": 2,
                "value": 0,
            }
        )
        return make_transaction(raw, int(now))

    def _prices(self, node: Node, over: Transaction | None) -> tuple[int, int]:
        """Return (tip, fee) in wei for each gas, see `Transaction`.

        The fee is enough for six full blocks, each of which raises the price by 1/8; it
        is not more than it may be, unless it takes that to replace another. Nodes want
        10 % more for that, some 12.5 %.
        """
        asked = node.tip()
        tip = _DEFAULT_TIP if asked is None else asked
        fee = min(2 * node.base_fee() + tip, self._options.max_fee)
        tip = min(tip, fee)
        if over is None:
            return tip, fee
        return max(tip, -(-9 * over.tip // 8)), max(fee, -(-9 * over.fee // 8))
