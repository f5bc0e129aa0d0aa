"""All options of a log, in one frozen dataclass; each has an ``AUDITLOG_*`` twin."""

import os
import typing
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any, Literal

from auditlog.core.errors import ConfigurationError

__all__ = ["Config", "load_config"]

_PREFIX = "AUDITLOG_"
_NOT_OPTIONS = frozenset({"AUDITLOG_TOKEN", "AUDITLOG_VECTORS", "AUDITLOG_WEBHOOK"})
"""Variables of the monitor and of the test suite that share our prefix."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Options of a log and its middleware.

    Keyword arguments of `auditlog.AuditMiddleware` win over environment variables,
    which win over the defaults here. An unknown name is an error.
    """

    enabled: bool = True
    """False lets every request pass untouched and records nothing."""
    dir: Path = Path("audit")
    """The log's directory; created on first start."""
    origin: str | None = None
    """The log's name for ever, a schema-less URL such as ``bank.example/credit``.
    Only used when the log is created; None takes ``auditlog.invalid/<random>``."""
    model: str | None = None
    """Model behind every route, ``name`` or ``name@version``. What a handler says wins
    over a callable, which wins over `model_header`, then `route_models`, then this."""
    route_models: tuple[tuple[str, str], ...] = ()
    """Models by route: a mapping of globs over templates to ``name`` or
    ``name@version``, the first that matches; in text ``glob=name@version,…``."""
    model_header: str = ""
    """Response header by which the application names the model; it is passed on."""
    models: tuple[str, ...] = ()
    """If given, only these model names stand in clear in entries; any other one is
    written ``other`` and its literal goes under ``context/model``. What
    `model_header` names must be listed, with its version (``name@version``)."""
    protocol: str = "auto"
    """Protocol by which traffic is read: ``auto`` asks each one whether it is its own,
    ``none`` reads nothing, a name such as ``openai.chat`` is that one's alone."""
    route_protocols: tuple[tuple[str, str], ...] = ()
    """Protocols by route: a mapping of globs over templates to what `protocol` takes,
    the first that matches; in text ``glob=name,…``."""
    route_subjects: tuple[tuple[str, str], ...] = ()
    """Where it stands whom a decision is about, by route: a mapping of globs over
    templates to ``path/<name>``, ``query/<name>``, ``header/<name>``,
    ``request/<pointer>`` or ``response/<pointer>``, the first that matches; before it
    may stand the kind of subject, as in ``customer:path/id``. What a handler says by
    `set_subject` wins. In text ``glob=place,…``."""
    record_keys: tuple[str, ...] = ()
    """Route templates, or operations, as globs, of decisions whose content may have to
    be erased alone: each that is about nobody in particular is sealed under a key of
    its own."""
    redact_keys: tuple[str, ...] = ()
    """Names whose values are never stored, in any case of letters: of members of JSON,
    fields of forms, parameters of queries."""
    redact_fields: tuple[str, ...] = ()
    """Places of JSON that are never stored, such as ``request/applicant/name``; ``*``
    stands for any one step, and both bodies are meant where it begins with ``/``."""
    redact_patterns: tuple[str, ...] = ()
    """Regular expressions whose matches in text are never stored, or names of some
    that are built in: ``card``, ``email``, ``iban``, ``ip``, ``phone``. In text one
    a line."""
    redact_unreadable: Literal["drop", "keep"] = "drop"
    """Whether a body that redaction cannot look into, such as an image, is stored;
    where nothing is to be redacted it always is."""
    include: tuple[str, ...] = ()
    """Route templates to capture, as globs; empty captures all matched routes."""
    exclude: tuple[str, ...] = ()
    """Route templates never captured, as globs; wins over `include`."""
    methods: tuple[str, ...] = ()
    """Methods to capture; empty captures all but GET, HEAD and OPTIONS."""
    websocket: Literal["session", "message", "off"] = "session"
    """Of a WebSocket, ``session`` makes one decision of the whole connection,
    ``message`` one of each message of the client, and ``off`` lets it pass."""
    durability: Literal["sync", "spool"] = "spool"
    """``sync`` holds the end of the answer until the decision is on disk; ``spool``
    has it there within 50 ms of the answer."""
    on_failure: Literal["open", "closed"] = "open"
    """``open`` never hurts the service; ``closed`` releases nothing unlogged."""
    depth: int = 1
    """How many JSON levels can be disclosed one by one, 0 to 8; with 0, no event of a
    stream and no message of a session can be either."""
    max_stored_bytes: int = 1 << 20
    """Bytes of each body that are kept; the commitment covers all of it. Those over
    1 MiB wait in an encrypted file without a name, in the log's directory."""
    max_spilled_bytes: int = 1 << 30
    """Bytes that may wait there, in each process; beyond, less of a body is kept, and
    messages sent in a session over 1 MiB cannot be disclosed one by one."""
    keep_rejected: bool = False
    """Keep bodies also where the answer is 401, 403, 422 or 429: the model has not
    run. The commitment covers them in any case."""
    header: str = "decision-id"
    """Response header that carries the decision's id; empty sends none."""
    policy: Path | None = None
    """tlog-policy file naming witnesses to ask; None takes ``<dir>/policy``."""
    checkpoint_interval: float = 1.0
    """Seconds between checkpoints, while the tree grows."""
    checkpoint_decisions: int = 1000
    """A checkpoint is made earlier when so many decisions wait for one."""
    anchor_interval: float = 600.0
    """Seconds between rounds of asking witnesses, and anchors (``anchors.toml``); also
    asked at a clean stop."""
    metrics: bool = False
    """Count in prometheus-client's default registry; needs the extra `metrics`."""

    def __post_init__(self) -> None:
        """Refuse values that cannot work.

        Raises:
            ConfigurationError: naming the option, what it takes and what came.
        """
        for name, kind in _hints().items():
            _check_choice(name, kind, getattr(self, name))
        _check_range("depth", self.depth, 0, 8)
        # Both bodies are one value in the database, whose limit is 10^9 bytes.
        _check_range("max_stored_bytes", self.max_stored_bytes, 0, 1 << 28)
        _check_range("max_spilled_bytes", self.max_spilled_bytes, 0, 1 << 40)
        _check_range("checkpoint_decisions", self.checkpoint_decisions, 1, 1 << 20)
        _check_range("checkpoint_interval", self.checkpoint_interval, 0.05, 3600)
        _check_range("anchor_interval", self.anchor_interval, 0.05, 86400 * 7)


def load_config(
    options: Mapping[str, Any] | None = None, env: Mapping[str, str] | None = None
) -> Config:
    """Build the configuration from keyword `options` over `env` over defaults.

    Args:
        options: values by field name; None values count as not given.
        env: environment variables; None takes the process's own.

    Raises:
        ConfigurationError: an unknown option, or a value that does not fit.
    """
    hints = _hints()
    values: dict[str, Any] = {}
    for variable, text in (os.environ if env is None else env).items():
        if variable.startswith(_PREFIX) and variable not in _NOT_OPTIONS:
            name = variable.removeprefix(_PREFIX).lower()
            _check_known(name, f"environment variable {variable}")
            values[name] = _from_text(variable, hints[name], text)
    for name, value in (options or {}).items():
        _check_known(name, f"option {name!r}")
        if value is not None:
            values[name] = _from_value(name, hints[name], value)
    return Config(**values)


@cache  # each decision beyond HTTP reads its options
def _hints() -> dict[str, Any]:
    return typing.get_type_hints(Config)


def _check_known(name: str, what: str) -> None:
    known = [field.name for field in fields(Config)]
    if name not in known:
        near = get_close_matches(name, known, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        msg = f"{what} is not known{hint} (known: {', '.join(known)})"
        raise ConfigurationError(msg)


def _from_text(variable: str, kind: Any, text: str) -> Any:
    try:
        if kind is bool:
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        if kind is int or kind is float:
            return kind(text)
    except (KeyError, ValueError):
        expected = "true or false" if kind is bool else f"a number ({kind.__name__})"
        msg = f"{variable} takes {expected}, got {text!r}"
        raise ConfigurationError(msg) from None
    if typing.get_origin(kind) is tuple:
        # A comma may stand in a pattern, as in {2,3}.
        lines = variable == f"{_PREFIX}REDACT_PATTERNS"
        given = text.splitlines() if lines else text.split(",")
        parts = tuple(part.strip() for part in given if part.strip())
        return tuple(_pair(variable, part) for part in parts) if _pairs(kind) else parts
    return Path(text) if _is_path(kind) else text


def _pairs(kind: Any) -> bool:
    """Whether an option takes a mapping, which is kept as a tuple of pairs."""
    return typing.get_origin(typing.get_args(kind)[0]) is tuple


def _pair(variable: str, text: str) -> tuple[str, str]:
    key, separator, value = text.partition("=")
    if not (separator and key.strip() and value.strip()):
        raise ConfigurationError(f"{variable} takes key=value,…; got {text!r}")
    return key.strip(), value.strip()


def _from_mapping(name: str, value: Any) -> tuple[tuple[str, str], ...]:
    pairs = tuple(value.items()) if isinstance(value, Mapping) else None
    if pairs is None or not all(
        isinstance(text, str) for pair in pairs for text in pair
    ):
        raise ConfigurationError(
            f"option {name!r} takes a mapping of strings to strings, got {value!r}"
        )
    return pairs


def _from_value(name: str, kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) is tuple and _pairs(kind):
        return _from_mapping(name, value)
    if typing.get_origin(kind) is tuple:
        if isinstance(value, str) or not _are_texts(value):
            msg = f"option {name!r} takes a sequence of strings, got {value!r}"
            raise ConfigurationError(msg)
        return tuple(value)
    if _is_path(kind):
        return _path(name, value)
    if kind is float and isinstance(value, int):
        return float(value)
    wanted = typing.get_args(kind) or (kind,)
    if typing.get_origin(kind) is not Literal and type(value) not in wanted:
        msg = f"option {name!r} takes {kind}, got {value!r}"
        raise ConfigurationError(msg)
    return value


def _are_texts(value: Any) -> bool:
    return isinstance(value, Iterable) and all(isinstance(part, str) for part in value)


def _path(name: str, value: Any) -> Path:
    try:
        return Path(value)
    except TypeError:
        msg = f"option {name!r} takes a path, got {value!r}"
        raise ConfigurationError(msg) from None


def _is_path(kind: Any) -> bool:
    return kind is Path or Path in typing.get_args(kind)


def _check_choice(name: str, kind: Any, value: Any) -> None:
    if typing.get_origin(kind) is Literal and value not in typing.get_args(kind):
        choices = ", ".join(typing.get_args(kind))
        msg = f"option {name!r} takes one of {choices}; got {value!r}"
        raise ConfigurationError(msg)


def _check_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        msg = f"option {name!r} takes {low} to {high}, got {value}"
        raise ConfigurationError(msg)
