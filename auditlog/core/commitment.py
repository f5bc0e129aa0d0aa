r"""Commitments: one hash per decision over all of its content (`FORMATS.md` §2, §3).

::

    salt_k       = bytes 16k .. 16k+15 of SHAKE-128("auditlog/salts/v1\n" ‖ secret)
    disclosure_i = salt_{i+1} ‖ u16 len(path) ‖ path ‖ value
    h_i          = SHA-256(0x00 ‖ disclosure_i)
    C            = SHA-256("auditlog/commitment/v1\n" ‖ salt_0 ‖ u64 |request|
                   ‖ u64 |response| ‖ h_0 ‖ … ‖ h_{n-1}),  n >= 2

Leaf 0 is the raw request, leaf 1 the raw response. The members of JSON bodies are
further leaves, each of which can be disclosed alone; `members` is their definition.
"""

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from auditlog.core.errors import MalformedError
from auditlog.core.record import MAX_DEPTH, nested_deeper

__all__ = [
    "BATCH_CONTAINERS",
    "MAX_BODY",
    "MAX_MEMBERS",
    "MAX_PATH",
    "Commitment",
    "LeafHasher",
    "commit",
    "commitment_digest",
    "disclosure_hash",
    "is_json",
    "leaf_salt",
    "members",
    "salts",
]

MAX_BODY = 1 << 20
"""Bytes of the largest body that is split into members."""
MAX_MEMBERS = 16_384
MAX_PATH = 1_024
"""Bytes of the longest path."""
BATCH_CONTAINERS = {
    "instances": 1,
    "inputs": 1,
    "predictions": 1,
    "outputs": 1,
    "dataframe_split": 2,
}
"""Levels that these members of a top-level object open beyond the depth."""

_SALT_SIZE = 16
_HASH_SIZE = 32
_JSON_TYPE = re.compile(r"application/(?:[!#$&^_.+a-z0-9-]+\+)?json")


def is_json(media_type: str) -> bool:
    """Return whether a media type is ``application/json`` or ``application/…+json``.

    Case and parameters do not count.
    """
    essence = media_type.partition(";")[0].strip(" \t").lower()
    return _JSON_TYPE.fullmatch(essence) is not None


class Commitment(NamedTuple):
    """A commitment, and what is needed to open it leaf by leaf."""

    digest: bytes
    """C, 32 bytes."""
    salts: tuple[bytes, ...]
    """salt_0 .. salt_n, 16 bytes each: the one of the commitment, then one a leaf."""
    hashes: tuple[bytes, ...]
    """h_0 .. h_{n-1}, 32 bytes each."""


def salts(secret: bytes, n: int) -> list[bytes]:
    """Return salt_0 .. salt_n for a commitment with `n` leaves, 16 bytes each."""
    size = _SALT_SIZE * (n + 1)
    stream = hashlib.shake_128(b"auditlog/salts/v1\n" + secret).digest(size)
    return [stream[at : at + _SALT_SIZE] for at in range(0, size, _SALT_SIZE)]


def leaf_salt(secret: bytes, leaf: int) -> bytes:
    """Return the salt of leaf `leaf`, which is salt_{leaf+1}."""
    return salts(secret, leaf + 1)[-1]


def _leaf_prefix(salt: bytes, path: str) -> bytes:
    try:
        name = path.encode()
    except UnicodeEncodeError as error:
        raise MalformedError("expected no lone surrogate in a path") from error
    if len(name) > MAX_PATH:
        raise MalformedError(
            f"expected a path of at most {MAX_PATH} bytes, got {len(name)}"
        )
    if len(salt) != _SALT_SIZE:
        raise MalformedError(f"expected a salt of 16 bytes, got {len(salt)}")
    return b"\0" + salt + len(name).to_bytes(2, "big") + name


class LeafHasher:
    """The hash of one leaf, while its value passes by."""

    __slots__ = ("_hash",)

    def __init__(self, salt: bytes, path: str) -> None:
        """Start the leaf with this salt (16 bytes) and path.

        Raises:
            MalformedError: the salt has another length, the path is too long.
        """
        self._hash = hashlib.sha256(_leaf_prefix(salt, path))

    def update(self, data: bytes) -> None:
        """Take the next bytes of the value."""
        self._hash.update(data)

    def digest(self) -> bytes:
        """Return the hash of the leaf over the bytes taken so far, 32 bytes."""
        return self._hash.digest()


def disclosure_hash(salt: bytes, path: str, value: bytes) -> bytes:
    """Return the hash of the leaf with this salt (16 bytes), path and value.

    Raises:
        MalformedError: the salt has another length, the path is too long.
    """
    return hashlib.sha256(_leaf_prefix(salt, path) + value).digest()


def commitment_digest(
    salt_0: bytes, request_size: int, response_size: int, hashes: Sequence[bytes]
) -> bytes:
    """Return C, 32 bytes, of the sizes of both raw bodies and all leaf hashes.

    Raises:
        MalformedError: fewer than two leaves, or a salt, size or hash out of range.
    """
    if len(salt_0) != _SALT_SIZE or any(len(item) != _HASH_SIZE for item in hashes):
        raise MalformedError("expected a salt of 16 bytes and hashes of 32")
    if len(hashes) < 2:
        raise MalformedError(f"expected two leaves or more, got {len(hashes)}")
    if not (0 <= request_size < 1 << 64 and 0 <= response_size < 1 << 64):
        raise MalformedError("expected body sizes that fit in 64 bits")
    sizes = request_size.to_bytes(8, "big") + response_size.to_bytes(8, "big")
    head = b"auditlog/commitment/v1\n" + salt_0 + sizes
    return hashlib.sha256(head + b"".join(hashes)).digest()


def commit(
    secret: bytes,
    request: bytes,
    response: bytes,
    leaves: Sequence[tuple[str, bytes]],
) -> Commitment:
    """Commit to both raw bodies and to further leaves.

    Args:
        secret: 32 random bytes, never used for another decision.
        request: raw request body, as it crossed the wire.
        response: raw response body.
        leaves: path and value of leaf 2 and those after it, in the order of
            `FORMATS.md` §3.

    Raises:
        MalformedError: the secret has another length, or a path is too long.
    """
    if len(secret) != 32:
        raise MalformedError(f"expected a secret of 32 bytes, got {len(secret)}")
    opened = [("request", request), ("response", response), *leaves]
    salt_0, *rest = salts(secret, len(opened))
    hashes = tuple(
        disclosure_hash(salt, path, value)
        for salt, (path, value) in zip(rest, opened, strict=True)
    )
    digest = commitment_digest(salt_0, len(request), len(response), hashes)
    return Commitment(digest, (salt_0, *rest), hashes)


# The grammar of RFC 8259, over bytes already known to be UTF-8. Possessive, so that
# hostile text costs no backtracking. A flat value is a scalar, or a container of
# scalars only; whole runs of flat values match in one step.
_WS = rb"[ \t\n\r]*+"
_STRING = (
    rb'"[^"\\\x00-\x1f]*+'
    rb'(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\\x00-\x1f]*+)*+"'
)
_NUMBER = rb"-?+(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?+(?:[eE][+-]?+[0-9]++)?+"
_SCALAR = rb"(?:%b|%b|true|false|null)" % (_STRING, _NUMBER)
_NAME = rb"%b%b:%b" % (_STRING, _WS, _WS)
_COMMA = rb"%b,%b" % (_WS, _WS)
_ARRAY = rb"\[%b(?:%b(?:%b%b)*+%b)?+\]" % (_WS, _SCALAR, _COMMA, _SCALAR, _WS)
_OBJECT = rb"\{%b(?:%b%b(?:%b%b%b)*+%b)?+\}" % (
    *(_WS, _NAME, _SCALAR),
    *(_COMMA, _NAME, _SCALAR, _WS),
)
_FLAT = rb"(?:%b|%b|%b)" % (_SCALAR, _ARRAY, _OBJECT)
_ITEMS = rb"(?:%b%b)*+" % (_FLAT, _COMMA)
_PAIRS = rb"(?:%b%b%b)*+%b" % (_NAME, _FLAT, _COMMA, _NAME)

_white = re.compile(_WS).match
_flat = re.compile(_FLAT).match
_named = re.compile(rb"%b(%b)%b:%b" % (_WS, _STRING, _WS, _WS)).match
_opening = {
    ord("["): re.compile(rb"\[%b%b" % (_WS, _ITEMS)).match,
    ord("{"): re.compile(rb"\{%b%b" % (_WS, _PAIRS)).match,
}
_following = {
    ord("["): re.compile(_COMMA + _ITEMS).match,
    ord("{"): re.compile(_COMMA + _PAIRS).match,
}
_closing = {
    ord("["): re.compile(_WS + rb"\]").match,
    ord("{"): re.compile(_WS + rb"\}").match,
}


class _NoMembersError(Exception):
    """The body is one that has no members."""


def _need(match: re.Match[bytes] | None) -> int:
    """Return where a match ends; without one the body is not JSON."""
    if match is None:
        raise _NoMembersError
    return match.end()


def _value_end(body: bytes, at: int) -> int:
    """Return the end of the JSON value that starts at `at`."""
    inside = bytearray()  # opening brackets not yet closed
    while True:
        while not (flat := _flat(body, at)):
            bracket = body[at] if at < len(body) else 0
            if bracket not in _opening:
                raise _NoMembersError
            at = _need(_opening[bracket](body, at))
            inside.append(bracket)
        at = flat.end()
        while inside and (closed := _closing[inside[-1]](body, at)):
            at = closed.end()
            inside.pop()
        if not inside:
            return at
        at = _need(_following[inside[-1]](body, at))


class _Splitter:
    """One body on its way to becoming members."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.found: list[tuple[str, bytes]] = []

    def split(self, prefix: str, depth: int) -> list[tuple[str, bytes]]:
        start = _need(_white(self.body))
        end = self._value(prefix, start, depth, top=True)
        if _need(_white(self.body, end)) != len(self.body):
            raise _NoMembersError
        return self.found

    def _value(self, path: str, at: int, depth: int, *, top: bool = False) -> int:
        """Split the value at `at`, whose path this is; return its end."""
        bracket = self.body[at : at + 1]
        if not depth or bracket not in (b"[", b"{"):
            return _value_end(self.body, at)
        inner = _need(_white(self.body, at + 1))
        if self.body[inner : inner + 1] == (b"]" if bracket == b"[" else b"}"):
            return inner + 1
        if bracket == b"[":
            return self._items(path, inner, depth - 1)
        return self._pairs(path, inner, depth - 1, top)

    def _items(self, path: str, at: int, depth: int) -> int:
        index = 0
        while True:
            at = self._member(f"{path}/{index}", at, depth)
            if self.body[at : at + 1] == b"]":
                return at + 1
            at = self._comma(at)
            index += 1

    def _pairs(self, path: str, at: int, depth: int, top: bool) -> int:
        names: set[str] = set()
        while True:
            match = _named(self.body, at)
            at = _need(match)
            assert match is not None
            name = _unescape(match[1])
            if name in names:
                raise _NoMembersError
            names.add(name)
            more = BATCH_CONTAINERS.get(name, 0) if top else 0
            at = self._member(f"{path}/{_pointer(name)}", at, depth + more)
            if self.body[at : at + 1] == b"}":
                return at + 1
            at = self._comma(at)

    def _member(self, path: str, at: int, depth: int) -> int:
        """Add the member that starts at `at`; return the next place after it."""
        if len(path.encode()) > MAX_PATH or len(self.found) == MAX_MEMBERS:
            raise _NoMembersError
        place = len(self.found)
        self.found.append((path, b""))  # containers come before what they hold
        end = self._value(path, at, depth)
        self.found[place] = (path, self.body[at:end])
        return _need(_white(self.body, end))

    def _comma(self, at: int) -> int:
        if self.body[at : at + 1] != b",":
            raise _NoMembersError
        return _need(_white(self.body, at + 1))


def _unescape(string: bytes) -> str:
    if b"\\" not in string:
        return string[1:-1].decode()
    name: Any = json.loads(string)
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise _NoMembersError from error
    return str(name)


def _pointer(name: str) -> str:
    """Return a name as RFC 6901 reference token."""
    return name.replace("~", "~0").replace("/", "~1")


def members(prefix: str, body: bytes, depth: int) -> list[tuple[str, bytes]] | None:
    """Split a JSON body into its members: path, exact bytes (`FORMATS.md` §3).

    Whether the body is JSON by media type is the caller's business.

    Args:
        prefix: ``request`` or ``response``, the start of every path.
        body: the raw or decoded body.
        depth: levels to open, 0 to 8.

    Returns:
        All members in pre-order, none of them for a bare scalar or an empty
        container; None if the body has no members by definition: depth 0, too
        large, too deep, too many, a path too long, not strict JSON, an ambiguous
        name.
    """
    if depth < 1 or len(body) > MAX_BODY or nested_deeper(body, MAX_DEPTH):
        return None
    try:
        body.decode()
        return _Splitter(body).split(prefix, depth)
    except (UnicodeDecodeError, _NoMembersError):
        return None
