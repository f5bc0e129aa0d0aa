"""What a round of a monitor found, and what it means.

=============  ====  =================================================================
kind           exit  meaning
=============  ====  =================================================================
``fork``         10  two histories, proven by a file
``suspicion``    10  what is served contradicts what was signed; not proof for others
``numbers``      10  the log contradicts itself about the numbers of an emitter
``untrusted``    13  no key of the policy signed, or its quorum is not met
``unchecked``     1  something could not be had, and nothing is said about it
``stale``        12  a view that is older than what was seen before; no proof
``anchors``      12  nothing new under a final anchor for too long, by the log's word
``silence``      12  an emitter said nothing for too long
``unclean``      12  an emitter died, and what it issued last is unknown; told once
``open``         12  numbers that have been open for too long after a stop
=============  ====  =================================================================
"""

from collections.abc import Collection, Iterable
from hashlib import sha256
from typing import NamedTuple

__all__ = ["CODES", "Finding", "severity"]

CODES = {
    "fork": 10,
    "suspicion": 10,
    "numbers": 10,
    "untrusted": 13,
    "unchecked": 1,
    "stale": 12,
    "anchors": 12,
    "silence": 12,
    "unclean": 12,
    "open": 12,
}
"""Exit status by kind."""

_SEVERITY = (10, 13, 1, 12)
_ONCE = frozenset({"unclean"})
"""Kinds that stay in the log for ever, and count in the round that first sees them."""
_KEY_DIGITS = 16


class Finding(NamedTuple):
    """Something that is to be told."""

    kind: str
    """One of `CODES`."""
    subject: str
    """What it is about: with the kind, the same finding in another round."""
    text: str
    """For a person, one line; it may name sizes and times that change."""
    file: str | None = None
    """Where the proof is."""

    @property
    def key(self) -> str:
        """Short name of the finding, the same in each round."""
        named = f"{self.kind}\n{self.subject}".encode()
        return sha256(named).hexdigest()[:_KEY_DIGITS]


def severity(findings: Iterable[Finding], told: Collection[str]) -> int:
    """Return the exit status of a round; 0 if there is nothing to say.

    Args:
        findings: of the round.
        told: keys of the findings that earlier rounds told.
    """
    codes = {
        CODES[one.kind]
        for one in findings
        if one.kind not in _ONCE or one.key not in told
    }
    return next((code for code in _SEVERITY if code in codes), 0)
