"""Who opens content leaves a trace: each reading is an entry of its own."""

from typing import Literal

from auditlog.core.record import Entry
from auditlog.log.directory import LogDirectory
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item

__all__ = ["ACCESS", "Channel", "record_access"]

ACCESS = "auditlog.access.v1"

Channel = Literal["api", "cli"]
"""Through what content was read."""


def record_access(
    log: LogDirectory, id_: str, *, what: str, channel: Channel, now: float
) -> None:
    """Make durable that content of a decision is about to be handed out.

    To be called when the content is known to be intact and before a byte of it
    leaves. Which parts were read stands nowhere: their names come from traffic.

    Args:
        log: the opened log, not read-only.
        id_: text of the decision's id.
        what: ``content`` for all of it, ``disclosure`` for parts in a receipt.
        channel: through what it is read.
        now: seconds since the epoch.

    Raises:
        StorageError: it could not be recorded, so nothing may be handed out.
    """
    time = int(now * 1_000_000)
    data = {"channel": channel, "decision": id_, "what": what}
    entry = Entry(new_id(time), ACCESS, log.origin, time, data)
    log.store.append([plain_item(entry)])
