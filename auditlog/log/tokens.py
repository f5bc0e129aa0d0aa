"""Bearer tokens of the reading interface: made once, kept only as a hash.

::

    token = "alt_" || 43 characters of base64url, which are 32 random bytes
    hash  = SHA-256(token), all that is stored; its first 12 hex digits are the id

A token is looked up by its hash, so nothing compares secrets byte by byte, and a
stolen database yields no token: 256 random bits leave nothing to guess.

Two roles, the second holding everything of the first:

- ``auditor`` reads entries, their metadata, and receipts that disclose nothing;
- ``content`` also reads what was captured.
"""

import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple, Protocol

from auditlog.core.errors import MalformedError, NotFoundError

__all__ = [
    "ROLES",
    "StoredToken",
    "TokenStore",
    "allows",
    "create_token",
    "list_tokens",
    "revoke_token",
    "role_of",
    "token_id",
]

ROLES = ("auditor", "content")
"""All roles; each holds the rights of those before it."""

_TOKEN = re.compile(r"alt_[A-Za-z0-9_-]{43}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{12,64}", re.ASCII)
_ID_DIGITS = 12
_MAX_LABEL = 100


class StoredToken(NamedTuple):
    """What is kept of a token."""

    hash: bytes
    """SHA-256 of the token's text."""
    role: str
    label: str
    """What the operator calls it, such as whom it was given to."""
    created: int
    """Seconds since the epoch."""

    @property
    def id(self) -> str:
        """How the operator names it: the first 12 hex digits of the hash."""
        return self.hash.hex()[:_ID_DIGITS]


class TokenStore(Protocol):
    """Where hashes of tokens are kept. Methods may be called from any thread."""

    def create_token(self, hash_: bytes, role: str, label: str, created: int) -> None:
        """Store the hash of a new token, durably."""

    def token_role(self, hash_: bytes) -> str | None:
        """Return the role of the token with this hash, or None."""

    def tokens(self) -> list[tuple[bytes, str, str, int]]:
        """Return (hash, role, label, created) of all tokens, oldest first."""

    def revoke_token(self, hash_: bytes) -> bool:
        """Remove the token, durably; return whether it was there."""


def create_token(
    store: TokenStore,
    role: str,
    *,
    label: str = "",
    now: float,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> str:
    """Make a token and store its hash; the text returned is kept nowhere.

    Args:
        store: where the hash goes.
        role: one of `ROLES`.
        label: printable, at most 100 characters.
        now: seconds since the epoch.
        random: returns that many random bytes as unpadded base64url.

    Raises:
        MalformedError: no such role, or a label that cannot be listed.
    """
    if role not in ROLES:
        msg = f"a token's role is one of {', '.join(ROLES)}; got {role!r}"
        raise MalformedError(msg)
    if len(label) > _MAX_LABEL or not label.isprintable():
        msg = f"a label is at most {_MAX_LABEL} printable characters, got {label!r}"
        raise MalformedError(msg)
    token = f"alt_{random(32)}"
    store.create_token(_hash(token), role, label, int(now))
    return token


def role_of(store: TokenStore, token: str) -> str | None:
    """Return the role that `token` carries; None if it is no token of this log."""
    if _TOKEN.fullmatch(token) is None:
        return None
    role = store.token_role(_hash(token))
    return role if role in ROLES else None


def token_id(token: str) -> str:
    """Return the id under which `token` is listed."""
    return _hash(token).hex()[:_ID_DIGITS]


def allows(role: str, needed: str) -> bool:
    """Return whether `role` holds the rights of `needed`."""
    return ROLES.index(role) >= ROLES.index(needed)


def list_tokens(store: TokenStore) -> list[StoredToken]:
    """Return what is kept of each token, oldest first."""
    return [StoredToken(*row) for row in store.tokens()]


def revoke_token(store: TokenStore, name: str) -> StoredToken:
    """Remove a token, named by its id or by its text; return what was kept of it.

    Raises:
        MalformedError: `name` is neither an id nor a token, or fits several tokens.
        NotFoundError: no token of that name.
    """
    wanted = _hash(name).hex() if _TOKEN.fullmatch(name) else name
    if _ID.fullmatch(wanted) is None:
        msg = "name a token by its id from `auditlog token list` (12 hex digits)"
        raise MalformedError(msg)
    found = [
        token for token in list_tokens(store) if token.hash.hex().startswith(wanted)
    ]
    if len(found) > 1:
        msg = f"{len(found)} tokens have an id that begins with {wanted}"
        raise MalformedError(msg)
    if not found or not store.revoke_token(found[0].hash):
        msg = "no such token; `auditlog token list` shows all"
        raise NotFoundError(msg)
    return found[0]


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
