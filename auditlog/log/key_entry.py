"""Key entries: what was done with the keys of the vault, never a key.

::

    {"generation": 2, "what": "vault"}
    {"backup": "<base64>", "expires": "2026-12-27T03:30:00.000000Z", "what": "backup"}
    {"backup": "<base64>", "what": "forgotten"}
    {"backup": "<base64>", "what": "restored"}
    {"keys": ["<key id>"], "what": "lost"}

is the `data` of such an entry (`auditlog.key.v1`):

=============  ====================================================================
``vault``      the key-encryption key was rotated: every key is wrapped under this
               generation, and the one before it is in no file of the log any more
``backup``     a copy of the keyring was about to be made; none of it is kept
               longer than until `expires`
``forgotten``  it was destroyed before that
``restored``   keys were taken from it
``lost``       these keys of the vault do not open any more, and never will: what they
               sealed is not there to be read, though it was not erased
=============  ====================================================================

How many keys there are stands nowhere, for it says about how many people a log knows;
of those that are lost it does, for they are what somebody might want to hide.
"""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any, NamedTuple

from auditlog.core.encoding import check_range, format_base64, parse_base64
from auditlog.core.errors import MalformedError
from auditlog.core.record import (
    MAX_INTEGER,
    Entry,
    canonical_json,
    check_fields,
    format_time,
    parse_time,
)
from auditlog.log.identity import new_id

__all__ = [
    "KEY",
    "BackupWord",
    "LostWord",
    "backup_entry",
    "lost_entry",
    "parse_key_entry",
    "rotation_entry",
]

KEY = "auditlog.key.v1"
_ENTROPY_BYTES = 10
_ID_BYTES = 16
_FIELDS: dict[str, dict[str, type]] = {
    "vault": {"what": str, "generation": int},
    "backup": {"what": str, "backup": str, "expires": str},
    "forgotten": {"what": str, "backup": str},
    "restored": {"what": str, "backup": str},
    "lost": {"what": str, "keys": list},
}


class BackupWord(NamedTuple):
    """What a key entry says of a backup of the keyring."""

    what: str
    """``backup``, ``forgotten`` or ``restored``."""
    id: bytes
    """Of the backup."""
    expires: int | None = None
    """Of a ``backup``: until when it is kept, microseconds since the epoch."""


class LostWord(NamedTuple):
    """What a key entry says of keys that are lost."""

    key_ids: tuple[bytes, ...]


def lost_entry(source: str, time: int, key_ids: Sequence[bytes]) -> Entry:
    """Return the entry that says that these keys are lost.

    Args:
        source: the log's origin.
        time: microseconds since the epoch.
        key_ids: as many as an entry has room for.
    """
    data = {"keys": [format_base64(one) for one in key_ids], "what": "lost"}
    return Entry(new_id(time), KEY, source, time, data)


def rotation_entry(source: str, generation: int, made: int) -> Entry:
    """Return the entry that tells of a rotation of the key-encryption key.

    Its id follows from what it says, so that after a crash a look-up tells whether it
    is there.

    Args:
        source: the log's origin.
        generation: number of the new key, 2 and more.
        made: when it was made, microseconds since the epoch.
    """
    named = canonical_json([source, "vault", generation, made])
    entropy = sha256(b"auditlog/key-entry/v1\n" + named).digest()[:_ENTROPY_BYTES]
    data = {"generation": generation, "what": "vault"}
    return Entry(new_id(made, entropy), KEY, source, made, data)


def backup_entry(source: str, time: int, word: BackupWord) -> Entry:
    """Return the entry that says this of a backup.

    Args:
        source: the log's origin.
        time: microseconds since the epoch.
        word: what is said.
    """
    data = {"backup": format_base64(word.id), "what": word.what}
    if word.expires is not None:
        data["expires"] = format_time(word.expires)
    return Entry(new_id(time), KEY, source, time, data)


def parse_key_entry(data: dict[str, Any]) -> int | BackupWord | LostWord:
    """Return the generation that the `data` of a key entry names, or its word.

    Raises:
        MalformedError: it is not what the functions here write.
    """
    required = _FIELDS.get(str(data.get("what")))
    if required is None:
        raise MalformedError(f"expected a key entry about {', '.join(_FIELDS)}")
    fields = check_fields(data, "a key entry", required)
    if fields["what"] == "vault":
        return check_range("a generation", fields["generation"], MAX_INTEGER, 2)
    if fields["what"] == "lost":
        return LostWord(tuple(_parse_id("a key", one) for one in fields["keys"]))
    id_ = _parse_id("a backup", fields["backup"])
    until = fields.get("expires")
    return BackupWord(fields["what"], id_, None if until is None else parse_time(until))


def _parse_id(what: str, text: object) -> bytes:
    id_ = parse_base64(text) if isinstance(text, str) else b""
    if len(id_) != _ID_BYTES:
        raise MalformedError(f"expected the id of {what}, got {len(id_)} bytes")
    return id_
