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

_RULES = ("redact_keys", "redact_fields", "redact_patterns")
_Named = dict[str, tuple[str, ...]]
_NONE: _Named = {}

_ADDED: dict[Path, tuple[_Named, tuple[Redactor, ...]]] = {}
"""Of each log, the rules and redactors of the middleware of this process; grow only."""
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
    point = _parsed(config, _named(config, _NONE), redactors)
    directory = config.dir.resolve()
    named, known = _ADDED.get(directory, (_NONE, ()))
    _ADDED[directory] = _named(config, named), _together(known, redactors)
    return point


def choke_point_beyond_http(
    config: Config, redactors: Sequence[Redactor] = ()
) -> ChokePoint | None:
    """Return what `auditlog.record` and its like pass; None if nothing has to go.

    Args:
        config: names the log, and rules besides those of the middleware of this
            process for the same log, whose code the environment does not know.
        redactors: likewise.

    Raises:
        ConfigurationError: a rule is none; its option is named.
    """
    named, known = _ADDED.get(config.dir.resolve(), (_NONE, ()))
    named, every = _named(config, named), _together(known, redactors)
    key = (*named.values(), config.redact_unreadable, *map(id, every))
    if key not in _BUILT:
        point = _parsed(config, named, every)
        if len(_BUILT) >= _MAX_BUILT:
            _BUILT.clear()
        _BUILT[key] = point, every
        return point
    return _BUILT[key][0]


def _named(config: Config, more: _Named) -> _Named:
    """Return the rules of a configuration by option, after those that are known."""
    return {
        name: tuple(dict.fromkeys([*more.get(name, ()), *getattr(config, name)]))
        for name in _RULES
    }


def _together(
    known: tuple[Redactor, ...], more: Sequence[Redactor]
) -> tuple[Redactor, ...]:
    return known + tuple(
        one for one in more if not any(one is other for other in known)
    )


def _parsed(
    config: Config, named: _Named, redactors: Sequence[Redactor]
) -> ChokePoint | None:
    rules = parse_rules(
        keys=named["redact_keys"],
        fields=named["redact_fields"],
        patterns=named["redact_patterns"],
        redactors=redactors,
        unreadable=config.redact_unreadable,
    )
    needed = rules.apply_to("request") or rules.apply_to("response")
    return ChokePoint(rules) if needed else None
