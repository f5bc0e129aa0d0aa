"""Which choke point belongs to a log, by its options and by what code adds to them."""

from collections.abc import Sequence
from pathlib import Path

from auditlog.capture.redaction.choke import ChokePoint
from auditlog.capture.redaction.rules import BodyRedactor, TextRedactor, parse_rules
from auditlog.config import Config

__all__ = ["Redactor", "choke_point", "choke_point_beyond_http"]

Redactor = TextRedactor | BodyRedactor
"""What code adds to the rules that options name."""

_MAX_BUILT = 64

_ADDED: dict[Path, tuple[Redactor, ...]] = {}
"""Of each log, what the middleware of this process adds; grows only."""
_BUILT: dict[tuple[object, ...], tuple[ChokePoint | None, tuple[Redactor, ...]]] = {}
"""Those built before. What they were built with is named by identity, and kept, so that
none of it is ever something else."""


def choke_point(config: Config, redactors: Sequence[Redactor]) -> ChokePoint | None:
    """Return what the exchanges of one middleware pass; None if nothing has to go.

    Whatever else records into this log in this process is then redacted likewise.

    Args:
        config: names the log, and rules.
        redactors: callables, or objects that look at whole bodies.

    Raises:
        ConfigurationError: a rule is none; its option is named.
    """
    point = _parsed(config, redactors)
    directory = config.dir.absolute()
    _ADDED[directory] = _together(_ADDED.get(directory, ()), redactors)
    return point


def choke_point_beyond_http(
    config: Config, redactors: Sequence[Redactor] = ()
) -> ChokePoint | None:
    """Return what `auditlog.record` and its like pass; None if nothing has to go.

    Args:
        config: names the log, and rules.
        redactors: besides those of the middleware of this process for the same log.

    Raises:
        ConfigurationError: a rule is none; its option is named.
    """
    every = _together(_ADDED.get(config.dir.absolute(), ()), redactors)
    key = (
        config.redact_keys,
        config.redact_fields,
        config.redact_patterns,
        config.redact_unreadable,
        *map(id, every),
    )
    if key not in _BUILT:
        point = _parsed(config, every)
        if len(_BUILT) >= _MAX_BUILT:
            _BUILT.clear()
        _BUILT[key] = point, every
        return point
    return _BUILT[key][0]


def _together(
    known: tuple[Redactor, ...], more: Sequence[Redactor]
) -> tuple[Redactor, ...]:
    return known + tuple(
        one for one in more if not any(one is other for other in known)
    )


def _parsed(config: Config, redactors: Sequence[Redactor]) -> ChokePoint | None:
    rules = parse_rules(
        keys=config.redact_keys,
        fields=config.redact_fields,
        patterns=config.redact_patterns,
        redactors=redactors,
        unreadable=config.redact_unreadable,
    )
    needed = rules.apply_to("request") or rules.apply_to("response")
    return ChokePoint(rules) if needed else None
