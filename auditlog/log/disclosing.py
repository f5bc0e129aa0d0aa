"""Some of the content of a decision, opened for somebody, in a receipt.

One way for command line and API: what was asked for is opened and found intact, the
reading is made durable with its recipient, and only then is there a receipt to hand
out. Whoever verifies it learns the opened parts, how many others there are, and the
sizes of both bodies: see ``auditlog/docs/disclosure.md``.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from auditlog.core.errors import ConfigurationError
from auditlog.core.receipt import format_receipt
from auditlog.log.access import SECRET, Access, Channel, Recipient, record_access
from auditlog.log.directory import LogDirectory
from auditlog.log.reader import Reader

__all__ = ["MAX_FIELDS", "Disclosed", "disclose"]

MAX_FIELDS = 1000
"""Parts that may be asked for by name."""


class Disclosed(NamedTuple):
    """A receipt that opens something, and what it opens."""

    receipt: bytes
    shown: tuple[str, ...]
    """Paths whose values are in it, in the order of the commitment."""
    hidden: tuple[str, ...]
    """Paths of what is kept and not in it."""
    lost: tuple[str, ...]
    """Paths of what nobody can open any more: only its first bytes are kept."""
    nameless: int
    """How many parts more there are of which only a hash is kept: they hold what was
    redacted, and nobody can open them, or say what they are called."""
    secret: bool
    """Whether the secret is in it, from which every salt follows: what is not shown
    can then be confirmed by guessing."""
    access: str
    """Id of the entry about it."""


def disclose(
    log: LogDirectory,
    id_: str,
    fields: Sequence[str] | None,
    *,
    recipient: Recipient,
    by: Mapping[str, str],
    channel: Channel,
    now: float,
    renew: Sequence[str] | None = None,
) -> Disclosed:
    """Open parts of a decision for a recipient; the reading is in the log on return.

    Args:
        log: the opened log, not read-only.
        id_: text of the id of the decision, or of another entry that has content.
        fields: paths, such as ``request/age``; None opens all that is kept, with the
            secret where there is one.
        recipient: to whom it is handed.
        by: who hands it out; see `auditlog.log.access.Access`.
        channel: through what.
        now: seconds since the epoch.
        renew: see `auditlog.log.attested.Attested.anchors`.

    Raises:
        ConfigurationError: no field, or too many.
        NotFoundError: no such entry, nothing was captured at a path, or it is not kept.
        PendingError: the entry is not under a checkpoint yet.
        StorageError: it could not be recorded; nothing may be handed out.
        VerificationError: stored content is not what the entry committed to.
    """
    if fields is not None and not 0 < len(fields) <= MAX_FIELDS:
        raise ConfigurationError(
            f"expected 1 to {MAX_FIELDS} fields to disclose, got {len(fields)}"
        )
    receipt, leaves = Reader(log).disclosed(id_, fields, renew)
    data = format_receipt(receipt)
    shown = tuple(one.path for one in receipt.disclosures)
    full = receipt.secret is not None
    paths = [*shown, SECRET] if full else shown
    said = Access("disclosure", channel, by, paths, recipient)
    access = record_access(log, id_, said, now=now)
    named = [leaf for leaf in leaves if leaf.path]
    lost = tuple(leaf.path for leaf in named if leaf.value is None)
    known = {*shown, *lost}
    hidden = tuple(leaf.path for leaf in named if leaf.path not in known)
    nameless = len(leaves) - len(named)
    return Disclosed(data, shown, hidden, lost, nameless, full, access)
