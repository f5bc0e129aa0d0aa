"""What a token may see, and until when it is good.

A scope narrows what its role allows to some decisions. It is stored as canonical JSON,
in which what is left out does not narrow::

    {"decisions": ["01995e6c-…"], "routes": ["/score*"], "since": 0, "until": 0}

`since` (included) and `until` (not) are times of decisions, microseconds since the
epoch. In a glob only ``*`` is special, and stands for any text, also for none and also
with ``/`` in it. A decision must fit everything that is given; an entry about a
decision is as visible as the decision. All else is invisible: who may see a part of the
decisions reads no bundle of entries, and asks for nothing about a person.

A scope that cannot be read allows nothing.
"""

import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

from auditlog.core.errors import MalformedError
from auditlog.core.record import (
    MAX_INTEGER,
    canonical_json,
    check_fields,
    format_id,
    parse_id,
    parse_json,
)
from auditlog.log.views import parse_moment
from auditlog.storage import IndexRow, Query

__all__ = [
    "EVERYTHING",
    "NEVER",
    "Scope",
    "format_scope",
    "make_scope",
    "parse_expiry",
    "parse_scope",
]

_T = TypeVar("_T", str, bytes)

NEVER = "never"
_DAYS = re.compile(r"([1-9][0-9]{0,3})([dh])", re.ASCII)
_SECONDS = {"d": 86_400, "h": 3_600}
_MAX_SCOPE = 1 << 17
_MAX_ROUTES, _MAX_DECISIONS = 64, 1000
_MAX_GLOB, _MAX_STARS = 256, 4
_KINDS: dict[str, type] = {
    "decisions": list,
    "routes": list,
    "since": int,
    "until": int,
}


class Scope(NamedTuple):
    """Which decisions a token may see; None leaves a field open."""

    routes: tuple[str, ...] | None = None
    """Globs over route templates, or operations, of which one must fit."""
    decisions: tuple[bytes, ...] | None = None
    """Ids, of which it must have one."""
    since: int | None = None
    """Microseconds since the epoch, included."""
    until: int | None = None
    """Microseconds since the epoch, not included."""

    @property
    def is_everything(self) -> bool:
        """Whether it narrows nothing."""
        return self == EVERYTHING

    def narrow(self, query: Query) -> Query:
        """Return a look-up that finds only what the scope allows."""
        since = [one for one in (self.since, query.time_from) if one is not None]
        until = [one for one in (self.until, query.time_to) if one is not None]
        return query._replace(
            routes=self.routes,
            ids=self.decisions,
            time_from=max(since, default=None),
            time_to=min(until, default=None),
        )

    def covers(self, id_: bytes, row: IndexRow | None) -> bool:
        """Return whether it allows to see a decision.

        Args:
            id_: of the decision.
            row: what the index knows of it; None while it is only opened, and then
                nothing is known but the id.
        """
        if self.decisions is not None and id_ not in self.decisions:
            return False
        if row is None:
            return self == Scope(decisions=self.decisions)
        return self._covers_route(row.route) and self._covers_time(row.time)

    def _covers_route(self, route: str | None) -> bool:
        if self.routes is None:
            return True
        fits = (_pattern(glob).fullmatch(route or "") for glob in self.routes)
        return route is not None and any(fits)

    def _covers_time(self, time: int) -> bool:
        early = self.since is not None and time < self.since
        return not early and (self.until is None or time < self.until)


EVERYTHING = Scope()
"""The scope of a token that has none."""


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, glob.split("*"))), re.DOTALL)


def make_scope(
    routes: Sequence[str] = (),
    decisions: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
) -> Scope:
    """Return the scope that an operator describes; what is not given is not narrowed.

    Args:
        routes: globs.
        decisions: ids as text.
        since: date or time.
        until: likewise.

    Raises:
        MalformedError: one of them is not what it should be.
    """
    scope = Scope(
        tuple(sorted(set(routes))) or None,
        tuple(sorted({parse_id(one) for one in decisions})) or None,
        None if since is None else parse_moment(since),
        None if until is None else parse_moment(until),
    )
    _check(scope)
    return scope


def format_scope(scope: Scope) -> str | None:
    """Return the text that is stored of a scope; None for everything."""
    if scope.is_everything:
        return None
    ids = None if scope.decisions is None else [*map(format_id, scope.decisions)]
    known: dict[str, object] = {"decisions": ids, "routes": scope.routes}
    known |= {"since": scope.since, "until": scope.until}
    given = {name: value for name, value in known.items() if value is not None}
    return canonical_json(given).decode()


def parse_scope(text: str | None) -> Scope:
    """Return a stored scope; None is everything.

    Raises:
        MalformedError: `format_scope` does not write this.
    """
    if text is None:
        return EVERYTHING
    try:
        fields = check_fields(
            parse_json(text.encode(), limit=_MAX_SCOPE), "a scope", {}, _KINDS
        )
    except UnicodeEncodeError:
        raise MalformedError(
            "expected a scope in UTF-8, got a lone surrogate"
        ) from None
    scope = Scope(
        _texts(fields, "routes"),
        None if (ids := _texts(fields, "decisions")) is None else _ids(ids),
        fields.get("since"),
        fields.get("until"),
    )
    _check(scope)
    if format_scope(scope) != text:
        raise MalformedError("expected a scope as it is written, got another spelling")
    return scope


def _texts(fields: dict[str, Any], name: str) -> tuple[str, ...] | None:
    if name not in fields:
        return None
    if not all(type(one) is str for one in fields[name]):
        raise MalformedError(f"expected {name} of a scope as texts")
    return tuple(fields[name])


def _ids(texts: Sequence[str]) -> tuple[bytes, ...]:
    return tuple(map(parse_id, texts))


def _check(scope: Scope) -> None:
    _check_list("routes", scope.routes, _MAX_ROUTES)
    _check_list("decisions", scope.decisions, _MAX_DECISIONS)
    for glob in scope.routes or ():
        _check_glob(glob)
    for time in (scope.since, scope.until):
        if time is not None and not 0 <= time <= MAX_INTEGER:
            raise MalformedError("expected times of a scope since 1970")
    if None not in (scope.since, scope.until) and scope.since >= scope.until:  # type: ignore[operator]
        raise MalformedError("expected a scope that begins before it ends")


def _check_list(name: str, values: tuple[_T, ...] | None, most: int) -> None:
    if values is None:
        return
    if not 0 < len(values) <= most:
        raise MalformedError(
            f"expected 1 to {most} {name} in a scope, got {len(values)}"
        )
    if any(one >= other for one, other in pairwise(values)):
        raise MalformedError(f"expected {name} of a scope once each, in order")


def _check_glob(glob: str) -> None:
    fits = 0 < len(glob) <= _MAX_GLOB and glob.isprintable()
    # Each of them multiplies what a look-up costs.
    if not fits or glob.count("*") > _MAX_STARS:
        raise MalformedError(
            f"expected a route as 1 to {_MAX_GLOB} printable characters with at most "
            f"{_MAX_STARS} *, got {glob[:64]!r}"
        )


def parse_expiry(text: str, now: float) -> int | None:
    """Read until when a token is good: ``30d``, ``12h``, a date or time, or `NEVER`.

    Args:
        text: as the operator wrote it.
        now: seconds since the epoch.

    Returns:
        Seconds since the epoch; None for never.

    Raises:
        MalformedError: it is none of them, or past.
    """
    if text == NEVER:
        return None
    span = _DAYS.fullmatch(text)
    if span is not None:
        return int(now) + int(span[1]) * _SECONDS[span[2]]
    try:
        moment = parse_moment(text) // 1_000_000
    except MalformedError:
        raise MalformedError(
            f"expected a time such as 30d, 12h, 2027-01-31 or never, got {text[:64]!r}"
        ) from None
    if moment <= now:
        raise MalformedError(f"expected a time to come, got {text[:64]!r}")
    return moment
