"""Key entries: what was done with the keys of the vault, never a key.

::

    {"generation": 2, "what": "vault"}
    {"backup": "<base64>", "expires": "2026-12-27T03:30:00.000000Z", "what": "backup"}
    {"backup": "<base64>", "what": "forgotten"}
    {"backup": "<base64>", "what": "restored"}

is the `data` of such an entry (`auditlog.key.v1`):

=============  ====================================================================
``vault``      the key-encryption key was rotated: every key is wrapped under this
               generation, and the one before it is in no file of the log any more
``backup``     a copy of the keyring was about to be made; none of it is kept
               longer than until `expires`
``forgotten``  it was destroyed before that
``restored``   keys were taken from it
=============  ====================================================================

How many keys there are stands nowhere, for it says about how many people a log knows.
"""

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
    "backup_entry",
    "parse_key_entry",
    "rotation_entry",
]

KEY = "auditlog.key.v1"
_ENTROPY_BYTES = 10
_BACKUP_ID_BYTES = 16
_FIELDS: dict[str, dict[str, type]] = {
    "vault": {"what": str, "generation": int},
    "backup": {"what": str, "backup": str, "expires": str},
    "forgotten": {"what": str, "backup": str},
    "restored": {"what": str, "backup": str},
}


class BackupWord(NamedTuple):
    """What a key entry says of a backup of the keyring."""

    what: str
    """``backup``, ``forgotten`` or ``restored``."""
    id: bytes
    """Of the backup."""
    expires: int | None = None
    """Of a ``backup``: until when it is kept, microseconds since the epoch."""


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


def parse_key_entry(data: dict[str, Any]) -> int | BackupWord:
    """Return the generation that the `data` of a key entry names, or its word.

    Raises:
        MalformedError: it is not what `rotation_entry` or `backup_entry` writes.
    """
    required = _FIELDS.get(str(data.get("what")))
    if required is None:
        raise MalformedError(f"expected a key entry about {', '.join(_FIELDS)}")
    fields = check_fields(data, "a key entry", required)
    if fields["what"] == "vault":
        return check_range("a generation", fields["generation"], MAX_INTEGER, 2)
    id_ = parse_base64(fields["backup"])
    if len(id_) != _BACKUP_ID_BYTES:
        raise MalformedError(f"expected the id of a backup, got {len(id_)} bytes")
    until = fields.get("expires")
    return BackupWord(fields["what"], id_, None if until is None else parse_time(until))
