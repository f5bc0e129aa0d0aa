"""Asks OpenTimestamps calendars: a promise at once, a Bitcoin block hours later.

Options of its ``[[anchor]]`` table::

    calendars = ["https://…"]   # who may be asked, ever, and as their answers name them
    pools = ["https://…"]       # optional: where to submit instead; they hand on to
                                # calendars
    minimum = 1                 # of them must promise, and later deliver
    timeout = 20                # seconds for all of them, which are asked at once
    headers = "bitcoin.toml"    # optional: [[bitcoin]] tables, as in a trust file, that
                                # you keep up to date; read when a block is named

Calendars see a hash of the digest and a nonce, so neither the digest nor whose it is.
What they answer is cut down to what is needed: promises of calendars in the list, then
Bitcoin attestations. No URL in an answer or in evidence is ever asked unless it is one
of the list.

Final is what `minimum` calendars have brought into a block. With `headers`, only a
block counts that the file knows and whose root fits. Without, a calendar that lies is
found out by the verifier's headers only: then let two be the minimum.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar

from auditlog.anchors.attestation import Attestation
from auditlog.anchors.http import Endpoint, parse_endpoint
from auditlog.anchors.ots.calendars import ask_blocks, ask_promise, find_calendar
from auditlog.anchors.ots.check import bound_of, parse_evidence
from auditlog.anchors.ots.proof import (
    BITCOIN,
    PENDING,
    SHA256,
    Way,
    append,
    extend,
    follow,
    format_proof,
)
from auditlog.anchors.trust import Trust, parse_trust
from auditlog.core.encoding import format_base64
from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    MalformedError,
    UntrustedError,
    VerificationError,
)
from auditlog.core.record import check_fields

__all__ = ["OtsAnchor", "configure"]

_T = TypeVar("_T")

_MAX_CALENDARS = 8  # two answers of each fit into a proof
_MAX_TIMEOUT = 300
_NONCE_BYTES = 16
_OPTIONAL = {"headers": str, "minimum": int, "pools": list, "timeout": object}


class _Reply(NamedTuple):
    """What came of asking one calendar: ways, an error, or neither: not yet."""

    ways: tuple[Way, ...] = ()
    error: AuditLogError | None = None


@dataclass(frozen=True, slots=True)
class OtsAnchor:
    """Several calendars as one anchor; `configure` makes it."""

    name: str
    calendars: tuple[Endpoint, ...]
    pools: tuple[Endpoint, ...] = ()
    """Where digests go; if there are none, to the calendars."""
    minimum: int = 1
    timeout: float = 20.0
    """Seconds."""
    headers: Path | None = None

    @property
    def kind(self) -> str:
        """As `Attestation.kind`."""
        return "ots"

    def submit(
        self, digest: bytes, pending: Sequence[Attestation], *, now: float
    ) -> Attestation:
        """Have calendars promise to bring a digest into a block; see `Anchor`.

        What was submitted before is submitted again, behind another nonce.
        """
        blinded = (append(secrets.token_bytes(_NONCE_BYTES)), SHA256)
        commitment = follow(blinded, digest)
        deadline = time.monotonic() + self.timeout

        def ask(server: Endpoint) -> tuple[Way, ...]:
            allowed = self.calendars if self.pools else (server,)
            return (ask_promise(server, allowed, commitment, deadline),)

        replies = _at_once(ask, self.pools or self.calendars)
        tails = [way for reply in replies for way in reply.ways]
        self._check_enough("promise", _count(tails), replies)
        return _attestation("pending", extend(blinded, tails))

    def upgrade(
        self, digest: bytes, attestation: Attestation, *, now: float
    ) -> Attestation:
        """Ask for the blocks that were promised; see `Anchor`."""
        if attestation.state == "final":
            return attestation
        before = set(parse_evidence(digest, attestation.evidence))
        judge = _Judge(digest, self.headers)
        promises = sorted(way for way in before if way.end.tag == PENDING)
        blocks = judge.sound(way for way in before if way.end.tag == BITCOIN)
        kept = _led_to(blocks, promises)
        waiting = [way for way in promises if way not in kept]
        replies = self._ask_blocks(waiting, judge)
        blocks |= {way for reply in replies for way in reply.ways}
        holding = {way for way in blocks if judge.holds(way)}
        if _count(_led_to(holding, promises)) >= self.minimum:
            return _attestation("final", blocks)
        if blocks - before:
            return _attestation("pending", blocks.union(promises))
        alive = sum(reply.error is None for reply in replies)
        self._check_enough("have a block or still may", len(kept) + alive, replies)
        return attestation

    def _ask_blocks(self, promises: Sequence[Way], judge: "_Judge") -> list[_Reply]:
        """Ask the calendar of each promise, if it is in the list, for its block."""
        deadline = time.monotonic() + self.timeout

        def ask(promise: Way) -> tuple[Way, ...]:
            uri = promise.end.payload.decode()
            calendar = find_calendar(self.calendars, uri)
            if calendar is None:
                raise ConfigurationError(
                    f"anchor {self.name}: {uri[:100]} is not among its calendars"
                )
            return ask_blocks(calendar, promise, judge.digest, deadline)

        return [judge.judged(reply) for reply in _at_once(ask, promises)]

    def _check_enough(self, what: str, count: int, replies: Sequence[_Reply]) -> None:
        """Raise what all errors together mean, if too few calendars did well."""
        if count >= self.minimum:
            return
        errors = [reply.error for reply in replies if reply.error is not None]
        lasting = [error for error in errors if type(error) is not AuditLogError]
        hopeful = count + len(errors) - len(lasting) >= self.minimum
        kind = type(lasting[0]) if lasting and not hopeful else AuditLogError
        reasons = "; ".join(map(str, errors)) or "they name the same calendar"
        raise kind(
            f"expected {self.minimum} calendars that {what}, got {count}: {reasons}"
        )


class _Judge:
    """Holds blocks against the operator's own headers, read when first needed."""

    def __init__(self, digest: bytes, headers: Path | None) -> None:
        self.digest = digest
        self._headers = headers
        self._trust: Trust | None = None

    def holds(self, way: Way) -> bool:
        """Tell whether a block is known to hold, or all are believed.

        Raises:
            VerificationError: it is known not to hold.
        """
        if self._headers is None:
            return True
        if self._trust is None:
            self._trust = _read_headers(self._headers)
        try:
            bound_of(way, self.digest, self._trust)
        except UntrustedError:
            return False
        except MalformedError as error:
            raise ConfigurationError(f"{self._headers}: {error}") from None
        return True

    def sound(self, ways: Iterable[Way]) -> set[Way]:
        """Return those that hold or may turn out to."""
        return {way for way in ways if self._fault(way) is None}

    def judged(self, reply: _Reply) -> _Reply:
        """Make an answer an error if nothing in it can hold."""
        ways = self.sound(reply.ways)
        if ways or not reply.ways:
            return _Reply(tuple(ways), reply.error)
        return _Reply((), self._fault(reply.ways[0]))

    def _fault(self, way: Way) -> VerificationError | None:
        try:
            self.holds(way)
        except VerificationError as error:
            return error
        return None


def configure(name: str, options: Mapping[str, Any], directory: Path) -> OtsAnchor:
    """Make the anchor of an ``[[anchor]]`` table of kind `ots`.

    Args:
        name: the operator's name for it.
        options: the other keys of the table.
        directory: the log's, to which file names are relative.

    Raises:
        ConfigurationError: a key is missing, unknown or unusable.
    """
    try:
        fields = check_fields(dict(options), "options", {"calendars": list}, _OPTIONAL)
    except MalformedError as error:
        odd = sorted(options.keys() - {"calendars", *_OPTIONAL})
        unknown = f"; unknown: {', '.join(odd)}" if odd else ""
        raise ConfigurationError(f"anchor {name}: {error}{unknown}") from None
    calendars = _endpoints(name, "calendars", fields["calendars"])
    pools = _endpoints(name, "pools", fields["pools"]) if "pools" in fields else ()
    minimum = fields.get("minimum", 1)
    if not 0 < minimum <= len(pools or calendars):
        raise ConfigurationError(
            f"anchor {name}: expected a minimum from 1 to the number of servers asked, "
            f"{len(pools or calendars)}, got {minimum}"
        )
    headers = directory / fields["headers"] if "headers" in fields else None
    if headers is not None:
        _read_headers(headers)
    timeout = _timeout(name, fields.get("timeout", 20))
    return OtsAnchor(name, calendars, pools, minimum, timeout, headers)


def _endpoints(name: str, key: str, urls: Sequence[Any]) -> tuple[Endpoint, ...]:
    if not all(type(url) is str for url in urls):
        raise ConfigurationError(f"anchor {name}: expected {key} as URLs")
    found = tuple(parse_endpoint(url) for url in urls)
    names = {endpoint.url.rstrip("/") for endpoint in found}
    if not 0 < len(names) <= _MAX_CALENDARS or len(names) != len(found):
        raise ConfigurationError(
            f"anchor {name}: expected 1 to {_MAX_CALENDARS} different URLs as {key}"
        )
    return found


def _timeout(name: str, value: Any) -> float:
    if type(value) not in {int, float} or not 0 < value <= _MAX_TIMEOUT:
        raise ConfigurationError(
            f"anchor {name}: expected a timeout of up to {_MAX_TIMEOUT} seconds"
        )
    return float(value)


def _read_headers(path: Path) -> Trust:
    try:
        trust = parse_trust(path.read_text("utf-8"))
    except (OSError, ValueError) as error:  # no UTF-8, or no file name
        raise ConfigurationError(f"cannot read the headers {path}: {error}") from None
    except MalformedError as error:
        raise ConfigurationError(f"{path}: {error}") from None
    if not trust.bitcoin:
        raise ConfigurationError(f"{path}: expected a [[bitcoin]] table")
    return trust


def _at_once(ask: Callable[[_T], tuple[Way, ...]], asked: Sequence[_T]) -> list[_Reply]:
    """Ask all in parallel; each ends in time, whatever the others do."""

    def reply(one: _T) -> _Reply:
        try:
            return _Reply(ask(one))
        except AuditLogError as error:
            return _Reply((), error)

    if not asked:
        return []
    with ThreadPoolExecutor(len(asked), "auditlog-ots") as pool:
        return list(pool.map(reply, asked))


def _led_to(blocks: Iterable[Way], promises: Sequence[Way]) -> list[Way]:
    """Return the promises that led to these blocks, for each the longest that did.

    Only the longest: a calendar that copies the promise of another, or cuts it short,
    must not count for what the other one brings.
    """
    longest = set()
    for block in blocks:
        starts = [
            promise.operations
            for promise in promises
            if block.operations[: len(promise.operations)] == promise.operations
        ]
        longest.add(max(starts, key=len, default=()))
    return [promise for promise in promises if promise.operations in longest]


def _count(promises: Sequence[Way]) -> int:
    """Count independent promises: each its own calendar, and its own commitment."""
    commitments = {promise.operations for promise in promises}
    return min(len(commitments), len({promise.end for promise in promises}))


def _attestation(
    state: Literal["pending", "final"], ways: Iterable[Way]
) -> Attestation:
    return Attestation("ots", state, {"ots": format_base64(format_proof(ways))})
