"""Pairs of names and values: bodies of forms, and the query of a target.

As browsers write them (WHATWG URL §5.1): percent-encoded, ``+`` is a space, pairs are
separated by ``&``. To some readers ``;`` separates them too, so that what holds one is
read both ways. Only values that change are written again.
"""

import re
from urllib.parse import quote, quote_plus, unquote_to_bytes

from auditlog.capture.redaction.json_document import redact_value
from auditlog.capture.redaction.places import Places, step
from auditlog.capture.redaction.rules import REDACTED, Rules
from auditlog.capture.redaction.text import find, redact_cut_text, redact_text

__all__ = ["goes", "redact_form", "redact_target"]

_PAIRS = re.compile(rb"([^&]*+)(&?)")
_HALF_ESCAPE = re.compile(rb"%[0-9A-Fa-f]?\Z")
# Of user[name], user.name, user:name: the names that a framework makes of it.
_PARTS = re.compile(r"[\w -]+")
_SAFE = "[]:@!$'()*,"


def goes(rules: Rules, places: Places, name: str) -> bool:
    """Return whether the value of a field goes, whatever it is."""
    return any(place.ends for place in step(places, name)) or any(
        rules.is_key[part] for part in (name, *_PARTS.findall(name))
    )


def redact_form(
    rules: Rules, value: bytes, places: Places = (), *, cut: bool = False
) -> bytes:
    """Return what may be stored of a form, or of its first bytes.

    Args:
        rules: what may not be stored.
        value: the pairs.
        places: where pointers are; the first step is a name.
        cut: whether it is known to go on.

    Raises:
        FailedRedactorError: a callable failed.
    """
    if cut:
        value = _HALF_ESCAPE.sub(b"", value)
    pairs = _PAIRS.findall(value)[:-1]  # and an empty one at the end
    last = len(pairs) - 1
    return b"".join(
        _pairs(rules, pair, places, cut=cut and number == last and not mark) + mark
        for number, (pair, mark) in enumerate(pairs)
    )


def _pairs(rules: Rules, pair: bytes, places: Places, *, cut: bool) -> bytes:
    """Return a pair redacted, which may be several with ``;`` between them."""
    *firsts, last = pair.split(b";")
    if firsts:
        found = [_pair(rules, one, places, cut=False) for one in firsts]
        pair = b";".join([*found, _pair(rules, last, places, cut=cut)])
    return _pair(rules, pair, places, cut=cut)


def _pair(rules: Rules, pair: bytes, places: Places, *, cut: bool) -> bytes:
    name, equals, value = pair.partition(b"=")
    cut_name = cut and not equals
    text = _decode(name.replace(b"+", b" "))
    change = redact_cut_text if cut_name else redact_text
    new_name = change(rules, text)
    if equals and any(goes(rules, places, one) for one in {text, new_name}):
        value = REDACTED.encode()
    elif equals:
        plain = _decode(value.replace(b"+", b" "))
        inner = step(places, text)
        new = redact_value(rules, plain, inner, cut=True if cut else None)
        value = value if new == plain else _encode(new)
    return (name if new_name == text else _encode(new_name)) + equals + value


def _decode(value: bytes) -> str:
    """Return what is meant; what is no UTF-8 as characters that stand for bytes."""
    return unquote_to_bytes(value).decode("utf-8", "surrogateescape")


def _encode(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return quote_plus(data, safe=_SAFE).encode()


def redact_target(rules: Rules, value: bytes) -> bytes:
    """Return what may be stored of path and query, as they were sent.

    Names go by what stands before a ``=``, in matrix parameters of the path too; a
    route's own names for its parts (``/users/{name}``) are not known here.

    Raises:
        FailedRedactorError: a callable failed.
    """
    path, mark, query = value.partition(b"?")
    segments = [_segment(rules, segment) for segment in path.split(b"/")]
    path = _across(rules, segments)
    return path + mark + redact_form(rules, query)


def _segment(rules: Rules, segment: bytes) -> bytes:
    return b";".join(
        _pair(rules, one, (), cut=False) if b"=" in one else _name(rules, one)
        for one in segment.split(b";")
    )


def _name(rules: Rules, part: bytes) -> bytes:
    text = _decode(part)
    new = redact_text(rules, text)
    return part if new == text else _quote(new)


def _across(rules: Rules, segments: list[bytes]) -> bytes:
    """Return the path, without the segments that a match goes through together."""
    texts = list(map(_decode, segments))
    spans = find(rules, "/".join(texts))
    start = 0
    for number, text in enumerate(texts):
        end = start + len(text)
        if any(begin < end and start < stop for begin, stop in spans):
            segments[number] = REDACTED.encode()
        start = end + 1
    return b"/".join(segments)


def _quote(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return quote(data, safe=_SAFE).encode()
