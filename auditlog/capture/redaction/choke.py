"""The choke point as it is configured: streams, documents and leaves, by their kind.

A body is server-sent events if its type or its look says so, as for whoever reads what
it says (`auditlog.capture.events`); JSON by the line by its type; else a document.
Whatever fails in here, and in what an operator put in, withholds the value: nothing of
it is stored, and its commitment alone covers it.
"""

import logging
from codecs import utf_8_decode
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from json import loads
from types import UnionType
from typing import TypeVar

from auditlog.capture.redaction.documents import redact_document
from auditlog.capture.redaction.engine import Engine
from auditlog.capture.redaction.form import redact_target
from auditlog.capture.redaction.json_document import redact_json
from auditlog.capture.redaction.ndjson import redact_lines
from auditlog.capture.redaction.redaction import Side
from auditlog.capture.redaction.rules import BodyRedactor, Rules
from auditlog.capture.redaction.sse import redact_events
from auditlog.capture.redaction.text import FailedRedactorError, redact_text_body
from auditlog.capture.redaction.websocket import redact_messages
from auditlog.core.commitment import is_event_stream
from auditlog.core.errors import MalformedError
from auditlog.core.pieces import frame, messages

__all__ = ["MAX_BODY", "ChokePoint"]

MAX_BODY = 8 << 20
"""Bytes of a body that are looked at; what stands behind them is not stored."""

_BEGINNINGS = (b"data:", b"event:", b": ", b":\n", b":\r")
_BOM = b"\xef\xbb\xbf"
_LINES = frozenset(
    {
        "application/json-lines",
        "application/json-seq",
        "application/jsonl",
        "application/jsonlines",
        "application/ndjson",
        "application/x-jsonlines",
        "application/x-ndjson",
        "text/x-ndjson",
    }
)
_UNTOUCHED = frozenset({"subject"})
"""Leaves by which people find what is held on them, and have it erased."""

_TARGET = "target"
_T = TypeVar("_T")

_log = logging.getLogger("auditlog")


class ChokePoint:
    """Implements `auditlog.capture.redaction.redaction.Redaction` by rules."""

    def __init__(self, rules: Rules) -> None:
        """Take the rules, which were checked."""
        self._said = False
        self._rules = replace(
            rules,
            texts=tuple(partial(self._watched, str, one) for one in rules.texts),
            bodies=tuple(_Watched(one, self._watched) for one in rules.bodies),
        )

    def body(
        self,
        side: Side,
        value: bytes,
        media_type: str | None,
        *,
        framed: bool,
        cut: bool = False,
    ) -> bytes | None:
        """See `Redaction`."""
        if not value or not self._rules.apply_to(side):
            return value
        cut = cut or len(value) > MAX_BODY
        value = value[:MAX_BODY]
        try:
            if framed:
                return self._messages(side, value, cut=cut)
            stream = _reader(value, media_type)
            if stream is None:
                return redact_document(self._rules, side, value, media_type, cut=cut)
            return self._stream(stream, side, value, media_type, cut=cut)
        except (FailedRedactorError, MalformedError):
            return None
        except Exception as error:  # noqa: BLE001 - a fault of ours withholds as well
            self._say(error)
            return None

    def leaf(self, name: str, value: bytes) -> bytes | None:
        """See `Redaction`."""
        if name in _UNTOUCHED or not value:
            return value
        try:
            if name == _TARGET:
                return redact_target(self._rules, value)
            # Pointers are of bodies, and so is what looks at bodies.
            after = redact_json(self._rules, value, ()) if _is_json(value) else None
            return after or redact_text_body(self._rules, value, "utf-8", cut=False)
        except FailedRedactorError:
            return None
        except Exception as error:  # noqa: BLE001 - a fault of ours withholds as well
            self._say(error)
            return None

    def _stream(
        self,
        read: "_Reader",
        side: Side,
        value: bytes,
        media_type: str | None,
        *,
        cut: bool,
    ) -> bytes | None:
        seen = self._seen(side, value, media_type)
        if seen is None:
            return None
        text, size = _decoded(seen)
        if text is None:
            # What looked at the whole body may have known better.
            known = self._rules.bodies or self._rules.unreadable == "keep"
            return seen if known else None
        is_cut = cut or size < len(seen)
        after = read(Engine(self._rules, side), text, cut=is_cut)
        return after.encode(errors="replace")

    def _messages(self, side: Side, value: bytes, *, cut: bool) -> bytes | None:
        if self._rules.bodies:
            frames: list[bytes] = []
            for message in messages(value, cut=True):
                seen = self._seen(side, message.payload, None)
                if seen is None:
                    return None
                frames.append(frame(message.order, message.kind, seen))
            value = b"".join(frames)
        return redact_messages(Engine(self._rules, side), value, cut=cut)

    def _seen(self, side: Side, value: bytes, media_type: str | None) -> bytes | None:
        """Return a value after all have seen it that look at whole bodies."""
        seen: bytes | None = value
        for redactor in self._rules.bodies:
            seen = None if seen is None else redactor.body(side, seen, media_type)
        return seen

    def _watched(
        self, kind: type[_T] | UnionType, redactor: Callable[..., _T], *given: object
    ) -> _T:
        """Ask what an operator put in for something of a kind; say so if it fails.

        Raises:
            FailedRedactorError: it failed.
        """
        try:
            answer = redactor(*given)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic in Rust is no Exception
            self._say(error)
            raise FailedRedactorError(type(error).__name__) from None
        if not isinstance(answer, kind):
            wrong = FailedRedactorError(type(answer).__name__)
            self._say(wrong)
            raise wrong
        return answer

    def _say(self, error: BaseException) -> None:
        """Log, once, that redaction fails; what the error says may hold anything."""
        if not self._said:
            self._said = True
            kind = type(error).__name__
            _log.error(
                "auditlog: redaction failed, so that a value is not stored and only "
                "committed to (said once): %s",
                kind,
            )


class _Watched:
    """A redactor of bodies that says so if it fails."""

    def __init__(
        self, redactor: BodyRedactor, ask: Callable[..., bytes | None]
    ) -> None:
        self._redactor = redactor
        self._ask = ask

    def body(self, side: Side, value: bytes, media_type: str | None) -> bytes | None:
        return self._ask(bytes | None, self._redactor.body, side, value, media_type)


def _decoded(value: bytes) -> tuple[str | None, int]:
    """Return a text and its length in bytes, as its end may cut a character."""
    if b"\0" in value:  # UTF-16 is UTF-8 with zeros, mostly
        return None, 0
    try:
        return utf_8_decode(value)
    except UnicodeDecodeError:
        return None, 0


_Reader = Callable[..., str]


def _reader(value: bytes, media_type: str | None) -> _Reader | None:
    """Return what reads a stream of this kind; None for a document."""
    name = (media_type or "").partition(";")[0].strip(" \t").lower()
    begins = value[: len(_BOM) + 6].removeprefix(_BOM)
    if is_event_stream(media_type or "") or begins.startswith(_BEGINNINGS):
        return redact_events
    return redact_lines if name in _LINES else None


def _is_json(value: bytes) -> bool:
    try:
        loads(value)
    except (ValueError, RecursionError):
        return False
    return True
