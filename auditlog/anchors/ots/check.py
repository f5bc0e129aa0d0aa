"""Checks evidence of kind `ots`: ``{"ots": base64 of the proof}``.

A Bitcoin attestation holds if the bytes to which the proof leads are the Merkle root of
the block of that height, by the verifier's own headers. The evidence says the height,
never the header. A pending attestation is a promise, and proves nothing.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping
from typing import Any

from auditlog.anchors.attestation import Bound
from auditlog.anchors.ots.headers import Header, check_successor, parse_header
from auditlog.anchors.ots.proof import BITCOIN, Way, follow, parse_canonical
from auditlog.anchors.trust import Bitcoin, Trust
from auditlog.core.encoding import parse_base64
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from auditlog.core.record import check_fields

__all__ = ["TOLERANCE", "bound_of", "check", "check_tables", "parse_evidence"]

TOLERANCE = 7200
"""Seconds added to a header's time, which its miner sets. Nodes refuse one more than
two hours ahead of their clocks, or not after the median of the eleven blocks before,
which lies about an hour back. So much older than its block may a header be, and two
hours leave room, unless most miners lie together for long."""


def check(digest: bytes, evidence: Mapping[str, Any], trust: Trust) -> Bound:
    """Return the time before which `digest` existed: the earliest that holds.

    Raises:
        MalformedError: the evidence, or a header of the trust file that it needs, does
            not follow its format.
        VerificationError: nothing but promises, or a known header has another root.
        UntrustedError: no header is known for any of its blocks.
    """
    ways = [way for way in parse_evidence(digest, evidence) if way.end.tag == BITCOIN]
    if not ways:
        raise VerificationError(
            "expected a Bitcoin attestation in a proof, got promises of calendars only"
        )
    bounds, contradicted = [], None
    for way in ways:
        try:
            bounds.append(bound_of(way, digest, trust))
        except UntrustedError:
            continue
        except VerificationError as error:
            contradicted = error
    if bounds:
        return min(bounds, key=lambda bound: bound.not_after)
    if contradicted is not None:
        raise contradicted
    heights = ", ".join(str(way.end.height) for way in ways[:5])
    raise UntrustedError(
        f"the trust file has no Bitcoin header of height {heights}: add it"
    )


def check_tables(trust: Trust) -> None:
    """Check every header of a trust file now, and not when a proof leads to it.

    Raises:
        MalformedError: one is none, or does not follow the one before it.
    """
    for height in sorted({height for t in trust.bitcoin for height, _ in t.headers}):
        for _ in _headers(height, trust):
            pass


def parse_evidence(digest: bytes, evidence: Mapping[str, Any]) -> tuple[Way, ...]:
    """Return the ways of the proof in evidence.

    Raises:
        MalformedError: it is not what an anchor of this kind makes.
    """
    fields = check_fields(evidence, "OpenTimestamps evidence", {"ots": str})
    return parse_canonical(parse_base64(fields["ots"]), digest)


def bound_of(way: Way, digest: bytes, trust: Trust) -> Bound:
    """Return what one Bitcoin attestation proves by the headers that are believed.

    Raises:
        VerificationError: a known header has another root.
        UntrustedError: none is known for its height.
        MalformedError: a header of the trust file is none.
    """
    height = way.end.height
    message = follow(way.operations, digest)
    found = list(_headers(height, trust))
    for party, header in found:
        if header.root == message:
            not_after = (header.time + TOLERANCE) * 1_000_000
            return Bound("ots", party, not_after, f"block {height}")
    if found:
        raise VerificationError(
            f"the proof does not lead to the Merkle root of block {height}"
        )
    raise UntrustedError(f"the trust file has no Bitcoin header of height {height}")


def _headers(height: int, trust: Trust) -> Iterator[tuple[str, Header]]:
    """Find the headers of a height, checked against their neighbours where given."""
    for number, table in enumerate(trust.bitcoin, 1):
        data = _data(table, height)
        if data is None:
            continue
        try:
            header = parse_header(data)
            before, after = _data(table, height - 1), _data(table, height + 1)
            if before is not None:
                check_successor(parse_header(before), header)
            if after is not None:
                check_successor(header, parse_header(after))
        except (MalformedError, VerificationError) as error:
            # Not the evidence is wrong, so this is never worded as its failure.
            raise MalformedError(
                f"trust file, bitcoin {number}, header {height} or beside it: {error}"
            ) from None
        yield table.party, header


def _data(table: Bitcoin, height: int) -> bytes | None:
    at = bisect_left(table.headers, (height, b""))
    if at < len(table.headers) and table.headers[at][0] == height:
        return table.headers[at][1]
    return None
