"""One document, redacted: which of the readers it is for, by media type and by form."""

import codecs
import re
from functools import partial

from auditlog.capture.redaction.form import redact_form
from auditlog.capture.redaction.json_document import redact_json
from auditlog.capture.redaction.lines import redact_lines
from auditlog.capture.redaction.multipart import redact_multipart
from auditlog.capture.redaction.places import Places
from auditlog.capture.redaction.redaction import Side
from auditlog.capture.redaction.rules import BodyRedactor, Rules
from auditlog.capture.redaction.text import FailedRedactorError, redact_text_body

__all__ = ["redact_document"]

_JSON = re.compile(r"(?:application|text)/(?:x-)?json|[a-z]+/[^;]+\+json")
_LINES = re.compile(
    r"(?:application|text)/(?:x-)?(?:ndjson|jsonl|jsonlines|json-lines)"
)
_SEQUENCE = re.compile(r"application/(?:[^;]+\+)?json-seq")
_FORM = "application/x-www-form-urlencoded"
# Text in which nothing has a name, so that there is nothing for keys and pointers.
_PROSE = frozenset({"", "text/markdown", "text/plain", "text/x-markdown"})
_TEXT = re.compile(
    r"text/.+|application/(?:[^;]+\+)?(?:xml|yaml)|image/svg\+xml|"
    r"application/(?:x-)?(?:yaml|javascript|csv|toml|graphql)"
)
_CHARSET = re.compile(r";[ \t]*charset=\"?([^\s;\"]+)", re.IGNORECASE)
# No codec that could do anything but read characters, and of those only such to which
# ASCII is ASCII: what was said to be UTF-16 and is not reads as other characters.
_CHARSETS = re.compile(
    r"utf-?8|us-ascii|ascii|latin-?1|iso-?8859-\d{1,2}|(?:windows-|cp)125\d|koi8-[ru]|"
    r"shift_jis|euc-(?:jp|kr)|gb(?:k|2312|18030)|big5"
)


def redact_document(
    rules: Rules,
    side: Side,
    value: bytes,
    media_type: str | None,
    *,
    cut: bool = False,
) -> bytes | None:
    """Return what may be stored of a body that is no stream; None if that is nothing.

    What comes back equals `value` where there was nothing to take out. Bytes that no
    rule touches stay as they are. Whatever the bytes are, nothing is raised.

    Args:
        rules: what may not be stored.
        side: which body it is.
        value: all of it, or its first bytes.
        media_type: Content-Type as sent; None without one.
        cut: whether it is known to go on. JSON, its lines and multipart show by
            themselves that they were cut; of other kinds a match that the cut hides is
            left out only where this is said.
    """
    if not value or not rules.apply_to(side):
        return value
    try:
        for redactor in rules.bodies:
            redacted = _call(redactor, side, value, media_type)
            if not redacted:
                return redacted
            value = redacted
        return _Reader(rules, side).read(value, media_type, cut=cut)
    except FailedRedactorError:
        return None


def _call(
    redactor: BodyRedactor, side: Side, value: bytes, media_type: str | None
) -> bytes | None:
    try:
        redacted: object = redactor.body(side, value, media_type)
    except Exception as error:  # noqa: BLE001 - of whatever kind, it failed
        raise FailedRedactorError(type(error).__name__) from None
    if redacted is None or isinstance(redacted, bytes):
        return redacted
    raise FailedRedactorError(f"expected bytes, got {type(redacted).__name__}")


class _Reader:
    """Reads the bodies of one side."""

    def __init__(self, rules: Rules, side: Side) -> None:
        self._rules = rules
        self._places = rules.places.get(side, ())
        self._names = rules.names(side)

    def read(self, value: bytes, media_type: str | None, *, cut: bool) -> bytes | None:
        """Return what may be stored of a body, as `redact_document`."""
        if media_type is not None and _essence(media_type).startswith("multipart/"):
            return redact_multipart(
                self._rules, value, media_type, self._places, self.part
            )
        return self.part(value, media_type, self._places, cut=cut)

    def part(
        self, value: bytes, media_type: str | None, places: Places, *, cut: bool
    ) -> bytes | None:
        """Return what may be stored of a body, or of one part of it."""
        text = value.removeprefix(codecs.BOM_UTF8)  # most readers pass over it
        mark = value[: len(value) - len(text)]
        stored = self._part(text, media_type, places, cut=cut)
        return None if stored is None else mark + stored

    def _part(
        self, value: bytes, media_type: str | None, places: Places, *, cut: bool
    ) -> bytes | None:
        kind = _essence(media_type or "")
        json = partial(redact_json, self._rules, value, places, cut=cut)
        if _JSON.fullmatch(kind):
            return json()
        lines = partial(redact_lines, self._rules, value, places, cut=cut)
        if (mark := _mark(kind)) is not None:
            return lines(mark=mark)
        # Clients say anything of JSON: curl says that it is a form.
        if value.lstrip()[:1] in (b"{", b"["):
            if (stored := json()) is not None:
                return stored
            if kind in _PROSE and (stored := lines()) is not None:
                return stored
        if kind == _FORM and b"\0" not in value:
            return redact_form(self._rules, value, places, cut=cut)
        return self._other(value, kind, _charset(media_type or "", value), cut=cut)

    def _other(
        self, value: bytes, kind: str, charset: str | None, *, cut: bool
    ) -> bytes | None:
        prose = kind in _PROSE
        is_text = prose or _TEXT.fullmatch(kind) is not None
        keeps = self._rules.unreadable == "keep" or bool(self._rules.bodies)
        if not is_text:
            return value if keeps else None
        if self._names and not prose and not keeps:
            return None  # it has names, and nobody here who reads them
        stored = None
        if charset is not None:
            stored = redact_text_body(self._rules, value, charset, cut=cut)
        if stored is None and keeps:
            # Every byte is a character of it, and identifiers are mostly in ASCII.
            stored = redact_text_body(self._rules, value, "latin-1", cut=cut)
        return stored


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip(" \t").lower()


def _mark(kind: str) -> bytes | None:
    """Return what stands between the texts of JSON in this kind of body, if any."""
    if _SEQUENCE.fullmatch(kind):
        return b"\x1e"
    return b"\n" if _LINES.fullmatch(kind) else None


def _charset(media_type: str, value: bytes) -> str | None:
    """Return the charset that is named, UTF-8 if none is, None if it cannot be."""
    found = _CHARSET.search(media_type)
    name = found[1].lower() if found else "utf-8"
    # UTF-16 is UTF-8 with zeros, mostly.
    return name if _CHARSETS.fullmatch(name) and b"\0" not in value else None
