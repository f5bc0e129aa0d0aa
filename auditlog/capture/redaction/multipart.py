"""Bodies of several parts (RFC 2046 §5.1, RFC 7578): each part is looked at alone.

Framing and headers stay, byte by byte. What is not framed as the RFC says cannot be
read: another reader may see other parts in it.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple, Protocol
from urllib.parse import unquote

from auditlog.capture.redaction.form import goes
from auditlog.capture.redaction.json_document import redact_value
from auditlog.capture.redaction.places import Places, step
from auditlog.capture.redaction.rules import REDACTED, Rules
from auditlog.capture.redaction.text import redact_text

__all__ = ["PartReader", "redact_multipart"]

_BOUNDARY = re.compile(
    r";[ \t]*boundary=(?:\"([^\"\\]*)\"|([^\s;\"]+))", re.IGNORECASE | re.ASCII
)
_NAME = re.compile(r"[0-9A-Za-z'()+_,./:=? -]{0,199}[0-9A-Za-z'()+_,./:=?-]", re.ASCII)
_MAX_PARTS = 10_000
_HEADER = re.compile(r"^([^\r\n:]++):[ \t]*+([^\r\n]*+)", re.MULTILINE)
# As browsers write them, percent-encoded, or with backslashes (RFC 7578 §4.2, §5.1).
_PARAMETER = re.compile(
    r";[ \t]*([\w-]+)(\*?)=(?:\"((?:[^\"\\]|\\.)*+)\"|([^;\s]*+))", re.ASCII
)
# Strictly (RFC 9110 §5.6.6): what follows a value, some readers take for a part of it.
_DISPOSITION = re.compile(
    r"[\w-]*(?:;[ \t]*[\w-]+\*?="
    r"(?:\"(?:[^\"\\]|\\.)*+\"|[\w!#$%&'*+.^`|~-]*+))*+[ \t]*",
    re.ASCII,
)
_ENCODED_WORD = "=?"  # RFC 2047 §2
_FOLDED = re.compile(r"[\r\n][ \t]")  # RFC 5322 §2.2.3
_PLAIN_CODINGS = frozenset({"7bit", "8bit", "binary", "identity", ""})


class PartReader(Protocol):
    """Redacts what stands in one part, by its own media type."""

    def __call__(
        self, value: bytes, media_type: str | None, places: Places, *, cut: bool
    ) -> bytes | None:
        """Return what may be stored of it; None if it cannot be read."""


class _Part(NamedTuple):
    name: str
    is_file: bool
    media_type: str | None
    is_plain: bool
    """Whether every reader sees this part like that, and its content as it is."""


def redact_multipart(
    rules: Rules, value: bytes, media_type: str, places: Places, read: PartReader
) -> bytes | None:
    """Return what may be stored of such a body, or of its first bytes.

    Args:
        rules: what may not be stored.
        value: the body.
        media_type: Content-Type, which names the boundary.
        places: where pointers are; the first step is the name of a part.
        read: reads parts that have a type of their own.

    Returns:
        None if the framing is broken. A part that cannot be read is taken out.

    Raises:
        FailedRedactorError: a callable failed.
    """
    found = [quoted or plain for quoted, plain in _BOUNDARY.findall(media_type)]
    boundary = found[0] if found else ""
    if len(found) != 1 or not _NAME.fullmatch(boundary):
        return None
    marks = _marks(value, b"--" + boundary.encode())
    if marks is None:
        return None
    parts = []
    for number, mark in enumerate(marks):
        last = number + 1 == len(marks)
        end = len(value) if last else marks[number + 1].start()
        between = value[mark.end() : end]
        parts.append(mark[0])
        if mark[1]:  # what closes it all: nothing may follow
            if not last or between.strip():
                return None
            parts.append(between)
        elif not last and b"\r\n\r\n" not in between:
            return None  # headers without an end
        else:
            parts += _part(rules, between, places, read, cut=last)
    return b"".join(parts)


def _marks(value: bytes, delimiter: bytes) -> list[re.Match[bytes]] | None:
    """Return the lines between the parts; None if there is one that is broken."""
    line = re.compile(
        rb"(?:\A|\r\n)%b(--)?[ \t]*+(?:(?=\r\n)|-?\r?\Z)" % re.escape(delimiter)
    )
    marks = list(line.finditer(value))
    if not marks or marks[0].start() or len(marks) > _MAX_PARTS:
        return None
    return marks if value.count(delimiter) == len(marks) else None


def _part(
    rules: Rules, part: bytes, places: Places, read: PartReader, *, cut: bool
) -> Iterator[bytes]:
    """Yield what may be stored of what stands after one of the lines."""
    head, blank, content = part.partition(b"\r\n\r\n")
    if not blank:
        return  # cut in its headers, or none at all
    try:
        text = head.decode()
    except UnicodeDecodeError:
        text = head.decode("latin-1")
    about = _about(text)
    known = bool(about.name) and goes(rules, places, about.name)
    new_text = _redact_head(rules, text, all_names=known)
    yield head if new_text == text else new_text.encode()
    yield blank
    inner = step(places, about.name)
    stored = None if known else _content(rules, about, content, inner, read, cut=cut)
    yield (REDACTED.encode() if content else b"") if stored is None else stored


def _content(
    rules: Rules,
    about: _Part,
    content: bytes,
    places: Places,
    read: PartReader,
    *,
    cut: bool,
) -> bytes | None:
    if not about.is_plain:
        return None
    if about.is_file or about.media_type is not None:
        return read(content, about.media_type, places, cut=cut)
    try:
        text = content.decode("utf-8", "ignore" if cut else "strict")
    except UnicodeDecodeError:
        return None
    new = redact_value(rules, text, places, cut=True if cut else None)
    return content if new == text else new.encode()


def _about(head: str) -> _Part:
    found = [(name.strip().lower(), value) for name, value in _HEADER.findall(head)]
    headers = {name: value.strip() for name, value in found}
    disposition = headers.get("content-disposition", "")
    given = list(_PARAMETER.finditer(disposition))
    parameters = {one[1].lower(): _parameter(one) for one in given}
    codings = {
        headers.get(f"content-{of}encoding", "").lower() for of in ("", "transfer-")
    }
    is_plain = (
        codings <= _PLAIN_CODINGS
        and len(headers) == len(found)  # none of them twice
        and [one[1].lower() for one in given].count("name") <= 1
        and _DISPOSITION.fullmatch(disposition) is not None
        and _ENCODED_WORD not in disposition
        and not _FOLDED.search(head)
    )
    return _Part(
        parameters.get("name", ""),
        "filename" in parameters,
        headers.get("content-type"),
        is_plain,
    )


def _parameter(found: re.Match[str]) -> str:
    if found[2]:  # charset'language'percent-encoded (RFC 8187)
        return unquote(found[4].rpartition("'")[2])
    value = found[4] if found[3] is None else re.sub(r"\\(.)", r"\1", found[3])
    return unquote(value)


def _redact_head(rules: Rules, head: str, *, all_names: bool) -> str:
    """Return headers without what matches in the names of parts and files."""

    def change(found: re.Match[str]) -> str:
        value = _parameter(found)
        is_name = all_names and found[1].lower() == "filename"
        new = REDACTED if is_name else redact_text(rules, value)
        if new == value:
            return found[0]
        written = re.sub(r"[\"\\\r\n]", " ", new)
        return f'; {found[1]}="{written}"'

    return redact_text(rules, _PARAMETER.sub(change, head))
