"""Splitting JSON bodies into members at the speed of msgspec.

`auditlog.core.commitment.members` is the definition, and this gives exactly what it
gives, or asks it. `msgspec.Raw` checks JSON strictly and yields the exact bytes of each
value, but it keeps the last of duplicate names silently, takes invalid UTF-8 inside
values, refuses lone surrogates there, and recurses. So its answer counts only where
these cannot matter (`FORMATS.md` §3):

- the body is UTF-8, and at most 64 containers deep;
- it took every object and array that was opened, without an error;
- and each opened object is as long as the names and values found in it, written
  without a space, or equals these joined again with the spaces that `json.dumps` sets.
  A duplicate name, an escape in a name, or white space elsewhere would show.
"""

from functools import lru_cache

from msgspec import MsgspecError, Raw
from msgspec.json import Decoder

from auditlog.capture.decoding import decode
from auditlog.core.commitment import (
    BATCH_CONTAINERS,
    MAX_BODY,
    MAX_MEMBERS,
    MAX_PATH,
    is_event_stream,
    is_json,
    members,
)
from auditlog.core.pieces import is_text, split_body
from auditlog.core.record import MAX_DEPTH, nested_deeper

__all__ = ["fast_members", "open_body", "split_of"]

Members = list[tuple[str, bytes]]

_decode_object = Decoder(dict[str, Raw]).decode
_decode_array = Decoder(list[Raw]).decode


class _UnprovenError(Exception):
    """This text is one that the definition has to decide."""


def open_body(
    prefix: str,
    body: bytes,
    media_type: str | None,
    coding: str | None,
    depth: int,
    *,
    framed: bool = False,
) -> tuple[bytes | None, str, Members]:
    """Return what further leaves a body of at most 1 MiB has (`FORMATS.md` §3).

    Args:
        prefix: ``request`` or ``response``.
        body: as it crossed the wire, all of it.
        media_type: Content-Type as sent; None without one.
        coding: Content-Encoding as sent; None without one.
        depth: levels that open into members.
        framed: whether these are messages of a WebSocket.

    Returns:
        The decoded body, if a coding was undone; how it is split: ``json``, ``sse``,
        ``ws`` or ``none``; and the leaves, of the decoded body where there is one.
    """
    decoded = None if coding is None or is_text(body) else decode(body, coding)
    split = "ws" if framed else split_of(media_type)
    if split == "chunks" or depth == 0:
        return decoded, "none", []
    whole = body if decoded is None else decoded
    if split == "json":
        found = fast_members(prefix, whole, depth)
    else:
        found = split_body(split, prefix, whole, depth)
    return (decoded, "none", []) if found is None else (decoded, split, found)


@lru_cache(maxsize=1024)
def split_of(media_type: str | None) -> str:
    """Return what a body of this Content-Type is split into if it can be.

    ``json`` or ``sse``; ``chunks``, which only a large body has, for any other.
    """
    if media_type is None:
        return "chunks"
    if is_json(media_type):
        return "json"
    return "sse" if is_event_stream(media_type) else "chunks"


def fast_members(prefix: str, body: bytes, depth: int) -> Members | None:
    """Return what `auditlog.core.commitment.members` returns, mostly faster."""
    if depth < 1 or len(body) > MAX_BODY or nested_deeper(body, MAX_DEPTH):
        return None
    text = body.strip(b" \t\n\r")
    try:
        if not text.isascii():
            text.decode()
        found: Members = []
        _open(found, prefix, text, depth, top=True)
    except UnicodeDecodeError:
        return None
    except (_UnprovenError, MsgspecError, UnicodeEncodeError):
        return members(prefix, body, depth)
    return found


def _open(found: Members, path: str, text: bytes, depth: int, top: bool) -> None:
    """Add the members of the container `text` to `found`, `depth` levels of them."""
    if text[:1] == b"{":
        pairs = {name: bytes(value) for name, value in _decode_object(text).items()}
        _prove(text, pairs)
        for name, value in pairs.items():
            token = name.replace("~", "~0").replace("/", "~1")
            more = BATCH_CONTAINERS.get(name, 0) if top else 0
            _add(found, f"{path}/{token}", value, depth + more)
    elif text[:1] == b"[":
        for index, value in enumerate(map(bytes, _decode_array(text))):
            _add(found, f"{path}/{index}", value, depth)
    else:
        raise _UnprovenError


def _add(found: Members, path: str, value: bytes, depth: int) -> None:
    if len(found) >= MAX_MEMBERS or len(path) > MAX_PATH // 4:  # 4 bytes a character
        raise _UnprovenError
    found.append((path, value))
    if depth > 1 and value[0] in b"[{":
        _open(found, path, value, depth - 1, top=False)


def _prove(text: bytes, pairs: dict[str, bytes]) -> None:
    """Refuse an object that may hold more than these pairs."""
    size = sum(map(len, pairs)) + sum(map(len, pairs.values()))
    if not pairs or (text.isascii() and len(text) == 1 + 4 * len(pairs) + size):
        return
    joined = [b'"%b": %b' % (name.encode(), value) for name, value in pairs.items()]
    if b"{%b}" % b", ".join(joined) == text:
        return
    joined = [b'"%b":%b' % (name.encode(), value) for name, value in pairs.items()]
    if b"{%b}" % b",".join(joined) != text:
        raise _UnprovenError
