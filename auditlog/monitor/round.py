"""What a monitor is asked to watch, and what one round of it saw: values."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from auditlog.core.checkpoint import Policy
from auditlog.monitor.account import NO_LIMITS, Limits
from auditlog.monitor.findings import Finding

__all__ = ["Options", "Round"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a monitor is to watch, and whom it believes."""

    origin: str
    policy: Policy
    limits: Limits = NO_LIMITS
    start: int = 0
    """First entry to rebuild, of a log that was never followed."""
    max_time: float = 3600.0
    """Seconds of rebuilding in one round."""


class Round(NamedTuple):
    """What one round saw."""

    origin: str
    time: float
    """Seconds since the epoch."""
    status: int
    """Exit status: what is the matter (`auditlog.monitor.findings`)."""
    findings: tuple[Finding, ...]
    size: int
    """Entries under the last checkpoint that verified."""
    root: bytes | None
    start: int
    """First of them that was rebuilt."""
    served: int | None
    """Size that the log showed; None if it showed none."""
    entries: bool
    """Whether entries are read, not only their hashes."""
    foreign: int
    """Entries that say nothing to us."""
    anchors: dict[str, dict[str, Any]]
    """Newest final attestation by anchor, as the log says: size and time."""
    anchor_lag: float | None
    """Seconds; None where entries are not read."""
    silence: float | None
    """Of the emitter at work that has said nothing for longest, seconds."""
    vantages: tuple[tuple[str, int | None], ...]
    """URL and size of each; None where it showed nothing."""
    untold: int
    """Alerts that the webhook has not taken yet."""
