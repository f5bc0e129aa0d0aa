"""An amendment, from what was said to what is durable in the log.

It goes straight into the store, in whatever process: it has no number, and nobody
recovers it. So it is there when `append_amendment` returns, and whoever gets an error
may look for its id. It is sealed under the key of whom its decision is about.
"""

import os

from auditlog.core.errors import ConfigurationError
from auditlog.core.record import DECISION, Entry, format_id
from auditlog.log.amendment import AMENDMENT, Amendment
from auditlog.log.appending import append_once, sealed_about
from auditlog.log.content import Content, context_only
from auditlog.log.directory import LogDirectory
from auditlog.log.identity import new_id
from auditlog.log.reader import Reader

__all__ = ["amendment_entry", "append_amendment"]

_SECRET_BYTES = 32


def append_amendment(log: LogDirectory, amendment: Amendment, now: int) -> bytes:
    """Make an amendment durable; return its id.

    Args:
        log: the opened log, not read-only.
        amendment: about a decision that is in the log, or on its way.
        now: microseconds since the epoch.

    Raises:
        NotFoundError: there is no such entry.
        ConfigurationError: it is no decision, or the keys cannot be used.
        StorageError: it is unknown whether it is there.
    """
    _check_decision(log, amendment.decision)
    entry, content = amendment_entry(amendment, log.origin, now)
    return append_once(
        log,
        lambda: sealed_about(log, amendment.decision, entry, content),
        "an amendment",
    )


def _check_decision(log: LogDirectory, id_: bytes) -> None:
    name = format_id(id_)
    # One that was only opened, or accepted, is on its way from some process.
    row = log.store.by_id(id_) or Reader(log).decision(name).row
    if row is not None and row.type != DECISION:
        raise ConfigurationError(
            f"expected the id of a decision to amend, but {name} is of {row.type}"
        )


def amendment_entry(
    amendment: Amendment, origin: str, now: int
) -> tuple[Entry, Content]:
    """Return the entry of an amendment, and the content that it commits to.

    Args:
        amendment: what is said.
        origin: the log's name.
        now: microseconds since the epoch.
    """
    secret = os.urandom(_SECRET_BYTES)
    leaves = [
        (f"context/{name}", value)
        for name, value in sorted(amendment.facts.leaves().items())
    ]
    said, content = context_only(secret, leaves, redaction=amendment.redaction)
    said |= {"decision": format_id(amendment.decision), "kind": amendment.kind}
    return Entry(new_id(now), AMENDMENT, origin, now, said), content
