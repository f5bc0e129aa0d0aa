"""Having an anchor keep a log's one history, and hearing of it if it knows another."""

from auditlog.anchors.attestation import Anchor, HistoryKeeper
from auditlog.core.errors import RollbackError
from auditlog.log.anchor_ledger import Ledger

__all__ = ["HistoryWork", "histories"]


class HistoryWork:
    """One anchor that keeps histories, and one log."""

    def __init__(self, name: str, keeper: HistoryKeeper, ledger: Ledger) -> None:
        """Prepare; nothing is asked yet.

        Args:
            name: of the anchor.
            keeper: the same anchor.
            ledger: of the log.
        """
        self.ledger = ledger
        self._name = name
        self._keeper = keeper
        self._kept = 0
        """Up to where it is known to keep the history, since this process began."""

    def behind(self) -> bool:
        """Return whether this anchor was asked for more than is kept.

        Raises:
            StorageError: the store cannot be read.
        """
        return self.size() > self._kept

    def size(self) -> int:
        """Return up to where it is to be kept: as far as this anchor was asked."""
        return self.ledger.covered(self._name)

    def check(self) -> int:
        """Check that the anchor knows nothing but our past; return how far it keeps it.

        May be called by any thread at any time.

        Raises:
            RollbackError: it knows another past, and proves it.
            AuditLogError: it cannot be asked, or what it says helps nobody.
        """
        while True:
            newest = self.ledger.newest()
            try:
                return self._keeper.check_history(newest, self.ledger.consistency)
            except RollbackError as error:
                # Another process may have signed more meanwhile, and told it.
                if self.ledger.newest().size == newest.size:
                    where = f"anchor {self._name}, log {self.ledger.origin}"
                    raise RollbackError(f"{where}: {error}") from None

    def keep(self, now: float) -> bool:
        """Have the history kept as far as `size` says; return whether it is already.

        Raises:
            RollbackError: as `check`.
            AuditLogError: it cannot be asked, or refuses.
        """
        size = self.size()
        if self.check() >= size:
            self._kept = size
            return True
        checkpoint = self.ledger.checkpoint(size)
        self._keeper.keep_history(checkpoint, self.ledger.consistency, now=now)
        return False


def histories(anchor: Anchor, *ledgers: Ledger) -> list[HistoryWork]:
    """Return the work on the history of each log, none if that anchor keeps none."""
    if not isinstance(anchor, HistoryKeeper):
        return []
    return [HistoryWork(anchor.name, anchor, ledger) for ledger in ledgers]
