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
from typing import NamedTuple, NoReturn

from auditlog.core.errors import MalformedError
from auditlog.core.record import MAX_DEPTH, nested_deeper

__all__ = [
    "BATCH_CONTAINERS",
    "CHUNK",
    "MAX_BODY",
    "MAX_MEMBERS",
    "MAX_PATH",
    "Commitment",
    "chunk_sizes",
    "chunks",
    "commit",
    "commitment_digest",
    "disclosure_hash",
    "is_event_stream",
    "is_json",
    "leaf_hasher",
    "leaf_salt",
    "members",
    "salt_stream",
    "salts",
]

MAX_BODY = 1 << 20
"""Bytes of the largest body that is split into members; a larger one is into chunks."""
CHUNK = 1 << 16
"""Bytes of each chunk but the last, which may be shorter."""
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
    return _JSON_TYPE.fullmatch(_essence(media_type)) is not None


def is_event_stream(media_type: str) -> bool:
    """Return whether a media type is ``text/event-stream``, as `is_json` does."""
    return _essence(media_type) == "text/event-stream"


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip(" \t").lower()


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
    stream = salt_stream(secret, n)
    return [stream[at : at + _SALT_SIZE] for at in range(0, len(stream), _SALT_SIZE)]


def salt_stream(secret: bytes, n: int) -> bytes:
    """Return salt_0 ‖ … ‖ salt_n, 16 bytes each."""
    size = _SALT_SIZE * (n + 1)
    return hashlib.shake_128(b"auditlog/salts/v1\n" + secret).digest(size)


def leaf_salt(secret: bytes, leaf: int) -> bytes:
    """Return the salt of leaf `leaf`, which is salt_{leaf+1}."""
    return salts(secret, leaf + 1)[-1]


def leaf_hasher(salt: bytes, path: str) -> "hashlib._Hash":
    """Return the hash of a leaf with this salt (16 bytes) and path, to take its value.

    Raises:
        MalformedError: the salt has another length, the path is too long.
    """
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
    return hashlib.sha256(b"\0" + salt + len(name).to_bytes(2, "big") + name)


def disclosure_hash(salt: bytes, path: str, value: bytes) -> bytes:
    """Return the hash of the leaf with this salt (16 bytes), path and value.

    Raises:
        MalformedError: the salt has another length, the path is too long.
    """
    leaf = leaf_hasher(salt, path)
    leaf.update(value)
    return leaf.digest()


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


def _refuse(text: str) -> NoReturn:
    raise ValueError(text)  # NaN and infinities are not JSON


# Strict, but for what `_refuse` refuses; numbers stay text, so that none is too long.
_decode = json.JSONDecoder(
    parse_int=str, parse_float=str, parse_constant=_refuse
).raw_decode
_white = re.compile(r"[ \t\n\r]*+").match


class _Splitter:
    """A JSON text on its way to becoming members; ValueError if it has none."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: list[tuple[str, bytes]] = []

    def split(self, prefix: str, depth: int) -> list[tuple[str, bytes]]:
        end = self._value(prefix, self._skip(0), depth, top=True)
        if self._skip(end) != len(self.text):
            raise ValueError
        return self.found

    def _value(self, path: str, at: int, depth: int, *, top: bool = False) -> int:
        """Add the members of the value at `at`, whose path this is; return its end."""
        bracket = self.text[at : at + 1]
        if not depth or bracket not in ("[", "{"):
            return _decode(self.text, at)[1]
        closing = "]" if bracket == "[" else "}"
        tokens: set[str] = set()
        at = self._skip(at + 1)
        if self.text[at : at + 1] == closing:
            return at + 1
        while True:
            token, more = str(len(tokens)), 0
            if bracket == "{":
                name, at = self._name(at)
                token = name.replace("~", "~0").replace("/", "~1")  # RFC 6901 §4
                more = BATCH_CONTAINERS.get(name, 0) if top else 0
            if token in tokens:
                raise ValueError
            tokens.add(token)
            at = self._member(f"{path}/{token}", at, depth - 1 + more)
            if self.text[at : at + 1] == closing:
                return at + 1
            at = self._after(",", at)

    def _member(self, path: str, at: int, depth: int) -> int:
        """Add the member that starts at `at`; return the next place after it."""
        # The path of a name with a lone surrogate does not encode: a ValueError.
        if len(path.encode()) > MAX_PATH or len(self.found) == MAX_MEMBERS:
            raise ValueError
        place = len(self.found)
        self.found.append((path, b""))  # containers come before what they hold
        end = self._value(path, at, depth)
        self.found[place] = (path, self.text[at:end].encode())
        return self._skip(end)

    def _name(self, at: int) -> tuple[str, int]:
        """Return the name at `at`, and where its value starts."""
        if self.text[at : at + 1] != '"':
            raise ValueError
        name, end = _decode(self.text, at)
        return name, self._after(":", self._skip(end))

    def _after(self, mark: str, at: int) -> int:
        if self.text[at : at + 1] != mark:
            raise ValueError
        return self._skip(at + 1)

    def _skip(self, at: int) -> int:
        white = _white(self.text, at)
        return white.end() if white else at


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
        return _Splitter(body.decode()).split(prefix, depth)
    except ValueError:  # UnicodeError and JSONDecodeError are such
        return None


def chunk_sizes(size: int) -> list[int]:
    """Return the sizes of the chunks of a body of `size` bytes (`FORMATS.md` §3).

    A body of at most 1 MiB has none, nor has one of more than 16,384 chunks.
    """
    if not MAX_BODY < size <= CHUNK * MAX_MEMBERS:
        return []
    return [min(CHUNK, size - at) for at in range(0, size, CHUNK)]


def chunks(prefix: str, body: bytes) -> list[tuple[str, bytes]]:
    """Split a body, or the first bytes of one, into chunks: path, bytes."""
    starts = range(0, len(body), CHUNK)
    return [(f"{prefix}#{at // CHUNK}", body[at : at + CHUNK]) for at in starts]
