"""Having an anchor keep a log's one history, and hearing of it if it knows another.

What it is to be told is durable before it is told: a row for each tree, under the
anchor's `history_name`, which is ``pending`` until nothing is left to do, then
``kept``. One tree is told at a time; what grew meanwhile comes after it.
"""

from collections.abc import Callable, Sequence

from auditlog.anchors.attestation import Anchor, Attestation, HistoryKeeper
from auditlog.core.errors import RollbackError
from auditlog.log.anchor_answer import attestation_of, checked, evidence_bytes
from auditlog.log.anchor_entry import history_name
from auditlog.log.anchor_ledger import Ledger
from auditlog.storage import AttestationRow

__all__ = ["HistoryWork", "histories"]

_STEPS = 4
"""Times that one tree is brought forward in one turn."""
_MICROSECONDS = 1_000_000


class HistoryWork:
    """One anchor that keeps histories, and one log."""

    def __init__(self, anchor: Anchor, keeper: HistoryKeeper, ledger: Ledger) -> None:
        """Prepare; nothing is asked yet.

        Args:
            anchor: whom to ask.
            keeper: the same anchor.
            ledger: of the log.
        """
        self.ledger = ledger
        self._anchor = anchor
        self._keeper = keeper
        self._name = history_name(anchor.name)
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
        return self.ledger.covered(self._anchor.name)

    def pending(self) -> list[AttestationRow]:
        """Return what is stored of trees that are not kept yet, one or none.

        Raises:
            StorageError: the store cannot be read.
        """
        return self.ledger.pending(self._name, self._anchor.kind)

    def complete(self) -> None:
        """Write the entry that a crash may have kept from the log.

        Raises:
            StorageError: try again.
        """
        self.ledger.complete(self._name)

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
                    where = f"anchor {self._anchor.name}, log {self.ledger.origin}"
                    raise RollbackError(f"{where}: {error}") from None

    def keep(self, now: float, pending: Callable[[], Sequence[Attestation]]) -> bool:
        """Have the history kept as far as `size` says; return whether it is already.

        Args:
            now: seconds since the epoch.
            pending: returns what this anchor has not made final yet, of anything.

        Raises:
            RollbackError: as `check`.
            AuditLogError: it cannot be asked, or refuses.
            StorageError: it is unknown how far it came: `complete` before going on.
        """
        size, known = self.size(), self.check()
        for row in self.pending():
            if not self._bring(row, now):
                return False
            known = max(known, row.size)
        if known < size:
            begun = self._again(size, now) or self._begin(size, now, pending)
            if begun is not None and self._bring(begun, now):
                known = size
        self._kept = known
        return known >= size

    def _again(self, size: int, now: float) -> AttestationRow | None:
        """Return what was sent for a tree, which is not known in spite of that.

        A node was wrong that said so, or a block was not as final as it seemed.
        """
        row = self.ledger.stored(self._name, size)
        if row is None:
            return None
        return self._store(size, _attestation(row), row.submitted, now)

    def _begin(
        self, size: int, now: float, pending: Callable[[], Sequence[Attestation]]
    ) -> AttestationRow | None:
        """Have a tree prepared to be told, and store that."""
        checkpoint, consistency = self.ledger.checkpoint(size), self.ledger.consistency
        got = self._keeper.tell_history(checkpoint, consistency, pending(), now=now)
        return None if got is None else self._store(size, got, 0, now)

    def _bring(self, row: AttestationRow, now: float) -> bool:
        """Bring a tree forward while there is news; return whether nothing is left.

        What an anchor prepares in place of something else it does when it is stored.
        """
        tree = self.ledger.checkpoint(row.size)
        follow, known = self._keeper.follow_history, _attestation(row)
        for _ in range(_STEPS):
            got = follow(tree, self.ledger.consistency, known, now=now)
            if got == known:
                break
            self._store(row.size, got, row.submitted, now)
            known = got
            if got.state == "final":
                break
        return known.state == "final"

    def _store(
        self, size: int, got: Attestation, submitted: int, now: float
    ) -> AttestationRow:
        kind = self._anchor.kind
        row = AttestationRow(
            size=size,
            anchor=self._name,
            kind=kind,
            state="kept" if got.state == "final" else "pending",
            evidence=evidence_bytes(checked(got, kind), None),
            submitted=submitted,
            updated=int(now * _MICROSECONDS),
        )
        return self.ledger.keep(row, 1)


def _attestation(row: AttestationRow) -> Attestation:
    """Return what is to be followed, even if it was thought to be done."""
    return attestation_of(row._replace(state="pending"))[0]


def histories(anchor: Anchor, *ledgers: Ledger) -> list[HistoryWork]:
    """Return the work on the history of each log, none if that anchor keeps none."""
    if not isinstance(anchor, HistoryKeeper):
        return []
    return [HistoryWork(anchor, anchor, ledger) for ledger in ledgers]
