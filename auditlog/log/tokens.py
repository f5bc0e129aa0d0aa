"""Bearer tokens of the reading interface: made once, kept only as a hash.

::

    token = "alt_" || 43 characters of base64url, which are 32 random bytes
    hash  = SHA-256(token), all that is stored; its first 12 hex digits are the id

A token is looked up by its hash, so nothing compares secrets byte by byte, and a
stolen database yields no token: 256 random bits leave nothing to guess.

Four roles:

============  =============================  ==========================================
role          also holds the rights of       and may
============  =============================  ==========================================
``auditor``                                  read entries, their metadata, and receipts
                                             that disclose nothing
``reviewer``  auditor                        amend decisions
``content``   auditor                        read what was captured and who read it,
                                             and disclose it to somebody
``privacy``   auditor, reviewer, content     export what is held on a person, and erase
                                             it
============  =============================  ==========================================

Who reads content cannot amend, and who amends cannot read: a review that may look at
what was captured takes two tokens, or the privacy officer's, who corrects what is wrong
about a person (GDPR Art. 16) and so needs both. Nobody administers tokens over HTTP.

A token ends by its expiry, or when it is revoked, and may be narrowed to some decisions
by a scope (`auditlog.log.token_scope`). Tokens from before there was an expiry have
none; `auditlog doctor` names them.
"""

import re
import secrets
from collections.abc import Callable
from hashlib import sha256
from typing import NamedTuple, Protocol

from auditlog.core.errors import MalformedError, NotFoundError
from auditlog.log.token_scope import EVERYTHING, Scope, format_scope, parse_scope
from auditlog.storage import TokenRow

__all__ = [
    "ROLES",
    "Grant",
    "TokenStore",
    "allows",
    "create_token",
    "grant_of",
    "list_tokens",
    "revoke_token",
    "token_id",
]

_RIGHTS = {
    "auditor": {"auditor"},
    "reviewer": {"auditor", "reviewer"},
    "content": {"auditor", "content"},
    "privacy": {"auditor", "reviewer", "content", "privacy"},
}
ROLES = tuple(_RIGHTS)
"""All roles."""

_TOKEN = re.compile(r"alt_[A-Za-z0-9_-]{43}", re.ASCII)
_ID = re.compile(r"[0-9a-f]{12,64}", re.ASCII)
_ID_DIGITS = 12
_MAX_LABEL = 100


class Grant(NamedTuple):
    """What a token that holds allows, and whose it is."""

    id: str
    """How the operator names it: the first 12 hex digits of the hash."""
    label: str
    role: str
    scope: Scope = EVERYTHING


class TokenStore(Protocol):
    """Where hashes of tokens are kept. Methods may be called from any thread."""

    def create_token(
        self,
        hash_: bytes,
        role: str,
        label: str,
        created: int,
        expires: int | None = None,
        scope: str | None = None,
    ) -> None:
        """Store the hash of a new token and what it may do, durably."""

    def token(self, hash_: bytes) -> TokenRow | None:
        """Return what is kept of the token with this hash, or None."""

    def tokens(self) -> list[TokenRow]:
        """Return what is kept of all tokens, oldest first."""

    def revoke_token(self, hash_: bytes) -> bool:
        """Remove the token, durably; return whether it was there."""


def create_token(
    store: TokenStore,
    role: str,
    *,
    label: str = "",
    now: float,
    expires: int | None = None,
    scope: Scope = EVERYTHING,
    random: Callable[[int], str] = secrets.token_urlsafe,
) -> str:
    """Make a token and store its hash; the text returned is kept nowhere.

    Args:
        store: where the hash goes.
        role: one of `ROLES`.
        label: printable, at most 100 characters.
        now: seconds since the epoch.
        expires: likewise, from when on it is refused; None for never.
        scope: what it may see.
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
    narrowed = format_scope(scope)
    store.create_token(_hash(token), role, label, int(now), expires, narrowed)
    return token


def grant_of(store: TokenStore, token: str, now: float) -> Grant:
    """Return what `token` allows.

    Args:
        store: where hashes are kept.
        token: as it came; nothing of it is in any message.
        now: seconds since the epoch.

    Raises:
        NotFoundError: it is no token of this log, or none any more.
        StorageError: it could not be looked up.
    """
    row = store.token(_hash(token)) if _TOKEN.fullmatch(token) else None
    if row is None or row.role not in ROLES:
        raise NotFoundError("no such token")
    if row.expires is not None and now >= row.expires:
        raise NotFoundError("the token has expired")
    try:
        scope = parse_scope(row.scope)
    except MalformedError:
        # Whatever it was to keep away: nobody knows any more.
        raise NotFoundError(
            "the token's scope cannot be read: ask for another"
        ) from None
    return Grant(row.hash.hex()[:_ID_DIGITS], row.label, row.role, scope)


def token_id(token: str | bytes) -> str:
    """Return the id under which a token, or the hash of one, is listed."""
    hash_ = token if isinstance(token, bytes) else _hash(token)
    return hash_.hex()[:_ID_DIGITS]


def allows(role: str, needed: str) -> bool:
    """Return whether `role` holds the rights of `needed`."""
    return needed in _RIGHTS[role]


def list_tokens(store: TokenStore) -> list[TokenRow]:
    """Return what is kept of each token, oldest first."""
    return store.tokens()


def revoke_token(store: TokenStore, name: str) -> TokenRow:
    """Remove a token, named by its id or by its text; return what was kept of it.

    Raises:
        MalformedError: `name` is neither an id nor a token, or fits several tokens.
        NotFoundError: no token of that name.
    """
    wanted = _hash(name).hex() if _TOKEN.fullmatch(name) else name
    if _ID.fullmatch(wanted) is None:
        msg = "name a token by its id from `auditlog token list` (12 hex digits)"
        raise MalformedError(msg)
    found = [row for row in store.tokens() if row.hash.hex().startswith(wanted)]
    if len(found) > 1:
        msg = f"{len(found)} tokens have an id that begins with {wanted}"
        raise MalformedError(msg)
    if not found or not store.revoke_token(found[0].hash):
        msg = "no such token; `auditlog token list` shows all"
        raise NotFoundError(msg)
    return found[0]


def _hash(token: str) -> bytes:
    return sha256(token.encode()).digest()
