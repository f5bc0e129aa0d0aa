"""The canonical bytes of decision entries, fast.

Decisions of one kind (same route, status, model, …) differ in six fields only. What
they share is written once by `canonical_json` and kept; each entry then is a join of
prepared pieces. The definition is `auditlog.core.record.format_entry`; a property test
holds the two together.
"""

import base64
import binascii
from typing import Any, NamedTuple

from auditlog.core.record import DECISION, canonical_json, format_id, format_time

__all__ = ["EntryTemplate", "Variable"]


class Variable(NamedTuple):
    """What differs between decisions of one kind."""

    id: bytes
    """UUIDv7, 16 bytes."""
    time: int
    """Microseconds since the epoch."""
    duration: int
    """Microseconds."""
    sequence: int
    digest: bytes
    """Of the commitment, 32 bytes."""
    subject: bytes
    """Blinded tag, 16 bytes."""


class EntryTemplate:
    """The entries of one kind of decision of one emitter."""

    __slots__ = ("_after_id", "_after_subject", "_before", "_common", "_end", "depth")

    def __init__(self, source: str, depth: int, common: dict[str, Any]) -> None:
        """Prepare what all entries share.

        Args:
            source: the log's origin.
            depth: of the commitments.
            common: the data of the entries, but for ``commitment``, ``duration`` and
                ``sequence``; every key sorts between these two.
        """
        self.depth = depth
        self._before = b'{"data":{"commitment":{"depth":%d,"digest":"' % depth
        self._common = canonical_json(common)[1:-1] + b',"sequence":'
        origin = canonical_json(source)
        self._after_id = b'","source":%b,"specversion":"1.0","subject":"' % origin
        self._after_subject = b'","time":"'
        self._end = b'","type":"%b"}' % DECISION.encode()

    def format(self, variable: Variable) -> bytes:
        """Return the canonical bytes of one entry."""
        id_, time, duration, sequence, digest, subject = variable
        return b"".join(
            (
                self._before,
                binascii.b2a_base64(digest, newline=False),
                b'","v":1},"duration":%d,' % duration,
                self._common,
                b'%d},"id":"' % sequence,
                format_id(id_).encode(),
                self._after_id,
                base64.urlsafe_b64encode(subject),
                self._after_subject,
                format_time(time).encode(),
                self._end,
            )
        )
