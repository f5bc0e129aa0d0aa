"""Which protocol an exchange is of: by configuration, else by its path and its shape.

Protocols of one's own are asked first. Of those that are built in, only the ones are
asked that the end of the path belongs to, then the ones whose mark stands near the
beginning of the answer: this is done for every exchange, and most are of no protocol.
"""

import re
from collections.abc import Iterator, Sequence
from fnmatch import translate
from typing import Any, NamedTuple

import msgspec

from auditlog.capture.protocols.anthropic import AnthropicMessages
from auditlog.capture.protocols.kserve import KServeV1, KServeV2
from auditlog.capture.protocols.mlflow import MLflow
from auditlog.capture.protocols.ollama import OllamaChat, OllamaEmbed, OllamaGenerate
from auditlog.capture.protocols.openai_batches import Embeddings, Moderations
from auditlog.capture.protocols.openai_completions import (
    ChatCompletions,
    TextCompletions,
)
from auditlog.capture.protocols.openai_responses import Responses
from auditlog.capture.protocols.sklearn import SklearnJson
from auditlog.capture.reading import ModelProtocol, Reading, Traffic
from auditlog.core.errors import ConfigurationError

__all__ = ["AUTO", "NONE", "Found", "Protocols"]

AUTO, NONE = "auto", "none"
"""Instead of a protocol's name: whichever claims the exchange, or none at all."""

_NAME = re.compile(r"[a-z0-9_]{1,32}(?:\.[a-z0-9_]{1,32}){0,3}")
_MEMBER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_MARKED = 4096
_MAX_KNOWN = 1024


class _Entry(NamedTuple):
    protocol: ModelProtocol
    ends: tuple[str, ...] = ()
    """What follows the last slash or colon of its paths."""
    mark: bytes = b""
    """What stands near the beginning of its answers, at whatever path; empty where only
    the path tells. Who has neither is asked last, about everything."""


_OBJECT = b'"object"'
_BUILT_IN = (
    _Entry(ChatCompletions(), ("completions",), _OBJECT),
    _Entry(TextCompletions(), ("completions",), _OBJECT),
    _Entry(Responses(), ("responses",), _OBJECT),
    _Entry(Embeddings(), ("embeddings",), _OBJECT),
    _Entry(Moderations(), ("moderations",)),
    _Entry(AnthropicMessages(), ("messages",)),
    _Entry(OllamaChat(), ("chat",)),
    _Entry(OllamaGenerate(), ("generate",)),
    _Entry(OllamaEmbed(), ("embed", "embeddings")),
    _Entry(KServeV1(), ("predict", "explain")),
    _Entry(KServeV2(), ("infer",)),
    _Entry(MLflow(), ("invocations",)),
    _Entry(SklearnJson()),
)
_BY_END = {
    end: tuple(entry.protocol for entry in _BUILT_IN if end in entry.ends)
    for entry in _BUILT_IN
    for end in entry.ends
}
_BY_SHAPE = tuple(
    entry.protocol for entry in _BUILT_IN if not (entry.ends or entry.mark)
)
_BY_MARK = tuple(
    (mark, tuple(entry.protocol for entry in _BUILT_IN if entry.mark == mark))
    for mark in dict.fromkeys(entry.mark for entry in _BUILT_IN)
    if mark
)


_OURS = frozenset(type(entry.protocol) for entry in _BUILT_IN)


class Found(NamedTuple):
    """What an exchange says, if there is anybody who can tell."""

    reading: Reading | None = None
    fault: str | None = None
    """Which protocol failed, and how; None if none did."""


_NOTHING = Found()
_Asked = tuple[ModelProtocol, ...]
_NEW: Any = object()
"""Stands for a route that was not asked for yet: None and () have a meaning."""


class Protocols:
    """The protocols of one middleware. Thread-safe.

    Args:
        protocol: `AUTO`, `NONE`, the name of a protocol, or of a family (``openai``).
        routes: the same by route, as pairs of a glob over templates and a name; the
            first that matches counts.
        own: protocols of one's own, asked first.

    Raises:
        ConfigurationError: there is no protocol of a name, or a name is none.
    """

    BUILT_IN = frozenset(entry.protocol.name for entry in _BUILT_IN)
    """Names of the protocols that need no instance."""

    def __init__(
        self,
        protocol: str = AUTO,
        routes: Sequence[tuple[str, str]] = (),
        own: Sequence[ModelProtocol] = (),
    ) -> None:
        self._own = tuple(own)
        self._known = {_name_of(one): one for one in own}
        for entry in _BUILT_IN:
            self._known.setdefault(entry.protocol.name, entry.protocol)
        self._default = self._named(protocol)
        self._routes = [
            (re.compile(translate(glob)), self._named(name)) for glob, name in routes
        ]
        self._by_route: dict[str, _Asked | None] = {}

    def read(self, traffic: Traffic, route: str | None) -> Found:
        """Return what an exchange says; never raises.

        Args:
            traffic: the exchange, finished.
            route: its template; None without a router: then the path is looked at.
        """
        asked = self._default
        if self._routes:
            asked = self._of_route(route or traffic.path)
        return self._find(traffic) if asked is None else _first(asked, traffic)

    def _find(self, traffic: Traffic) -> Found:
        for protocol in self._candidates(traffic):
            found = _ask(protocol, traffic)
            if found is not None:
                return found
        return _NOTHING

    def _candidates(self, traffic: Traffic) -> Iterator[ModelProtocol]:
        yield from self._own
        path = traffic.path.rstrip("/")
        yield from _BY_END.get(path[max(path.rfind("/"), path.rfind(":")) + 1 :], ())
        for mark, protocols in _BY_MARK:
            if traffic.response.find(mark, 0, _MARKED) >= 0:
                yield from protocols
        yield from _BY_SHAPE

    def _named(self, name: str) -> _Asked | None:
        if name == AUTO:
            return None
        asked = tuple(
            protocol
            for known, protocol in self._known.items()
            if known == name or known.startswith(f"{name}.")
        )
        if not asked and name != NONE:
            raise ConfigurationError(
                f"a protocol is one of {', '.join((AUTO, NONE, *self._known))}, "
                f"got {name!r}"
            )
        return asked

    def _of_route(self, route: str) -> _Asked | None:
        # Another thread may forget all of them between any two lines.
        known: _Asked | None = self._by_route.get(route, _NEW)
        if known is _NEW:
            if len(self._by_route) >= _MAX_KNOWN:
                self._by_route.clear()
            matching = (asked for glob, asked in self._routes if glob.match(route))
            known = self._by_route[route] = next(matching, self._default)
        return known


def _name_of(protocol: ModelProtocol) -> str:
    name: object = getattr(protocol, "name", None)
    if isinstance(name, str) and _NAME.fullmatch(name) and name not in (AUTO, NONE):
        return name
    raise ConfigurationError(
        "a protocol's name is up to four words of lower-case letters and digits with "
        f"dots between, and neither {AUTO!r} nor {NONE!r}; "
        f"got that of {type(protocol).__name__}"
    )


def _first(asked: _Asked, traffic: Traffic) -> Found:
    # Who was chosen reads whether it would claim the exchange or not; of a family those
    # that would come first.
    if len(asked) > 1:
        for protocol in asked:
            found = _ask(protocol, traffic)
            if found is not None:
                return found
    for protocol in asked:
        found = _ask(protocol, traffic, chosen=True)
        if found is not None:
            return found
    return _NOTHING


def _ask(
    protocol: ModelProtocol, traffic: Traffic, *, chosen: bool = False
) -> Found | None:
    try:
        if not (chosen or protocol.claims(traffic)):
            return None
        reading: object = protocol.read(traffic)
        if isinstance(reading, Reading) and type(protocol) not in _OURS:
            _check(reading)
    except Exception as error:  # noqa: BLE001 - may be foreign
        return Found(fault=f"protocol {protocol.name}: {type(error).__name__}")
    if reading is None or isinstance(reading, Reading):
        return None if reading is None else Found(reading)
    return Found(fault=f"protocol {protocol.name}: no Reading")


def _check(reading: Reading) -> None:
    """Check what a protocol of somebody's own says: nothing else checks its types.

    Raises:
        ValueError: a field is not of its type, or a member's name would be none.
    """
    msgspec.convert(msgspec.to_builtins(reading, enc_hook=str), Reading)
    for name in (*reading.parameters, *reading.usage, *reading.attributes):
        if not _MEMBER.fullmatch(name):
            raise ValueError("expected up to 64 ASCII letters, digits, '.', '_', '-'")
