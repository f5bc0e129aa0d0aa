"""What stores of earlier releases do not have, made when one is opened for writing.

A store that was upgraded has the schema of a new one to the letter, so that the log's
check need not know which it is. Whoever still runs the earlier release on it has to be
restarted.
"""

import re
from collections.abc import Callable

from auditlog.core.errors import AuditLogError
from auditlog.core.record import parse_entry, parse_id
from auditlog.storage.database import Database
from auditlog.storage.sqlite_backups import BACKUPS_SCHEMA
from auditlog.storage.sqlite_entries import ABOUT_SCHEMA, VAULT_KEY_SCHEMA
from auditlog.storage.sqlite_erasures import ERASURES_SCHEMA
from auditlog.storage.sqlite_lost import LOST_SCHEMA
from auditlog.storage.sqlite_publication import ATTESTATIONS_SCHEMA

__all__ = ["add_missing"]

_TABLES = {
    "attestations": ATTESTATIONS_SCHEMA,
    "erasures": ERASURES_SCHEMA,
    "keyring_backups": BACKUPS_SCHEMA,
    "lost_keys": LOST_SCHEMA,
}
_HAS = "SELECT 1 FROM sqlite_schema WHERE name = ?"
_HAS_COLUMN = "SELECT 1 FROM pragma_table_info('entry_index') WHERE name = 'about'"
_HAS_EXPIRY = "SELECT 1 FROM pragma_table_info('tokens') WHERE name = 'scope'"
_NAMING = ("auditlog.access.v1", "auditlog.amendment.v1")
"""Types of entries that are about a decision."""


def add_missing(database: Database, read: Callable[[int, int], list[bytes]]) -> None:
    """Make what earlier releases did not: tables, an index, columns.

    Args:
        database: of the store.
        read: returns entries by their indices, as `auditlog.storage.Spool.read`.

    Raises:
        StorageError: it could not be made, or what it is made of could not be read.
    """
    for name, schema in _TABLES.items():
        _add_schema(database, name, schema)
    _add_schema(database, "vault_key", VAULT_KEY_SCHEMA)
    if not database.fetch(_HAS_COLUMN, (), (int,)):
        _add_about(database, read)
    if not database.fetch(_HAS_EXPIRY, (), (int,)):
        _add_expiry(database)


def _add_schema(database: Database, name: str, schema: str) -> None:
    if database.fetch(_HAS, (name,), (int,)):
        return
    # Another process may just have made it.
    made = re.sub("CREATE (TABLE|INDEX)", r"CREATE \1 IF NOT EXISTS", schema)
    with database.writing() as connection:
        for statement in made.split(";"):
            connection.execute(statement)


def _add_expiry(database: Database) -> None:
    with database.writing() as connection:
        if not connection.execute(_HAS_EXPIRY).fetchall():
            connection.execute("ALTER TABLE tokens ADD COLUMN expires INTEGER")
            connection.execute("ALTER TABLE tokens ADD COLUMN scope TEXT")


def _add_about(database: Database, read: Callable[[int, int], list[bytes]]) -> None:
    query = "SELECT idx FROM entry_index WHERE type IN (?, ?) ORDER BY idx"
    rows = database.fetch(query, _NAMING, (int,))
    named = [(_decision_in(*read(index, index + 1)), index) for (index,) in rows]
    with database.writing() as connection:
        if not connection.execute(_HAS_COLUMN).fetchall():
            connection.execute("ALTER TABLE entry_index ADD COLUMN about BLOB")
            connection.execute(ABOUT_SCHEMA)
            fill = "UPDATE entry_index SET about = ? WHERE idx = ?"
            connection.executemany(fill, named)


def _decision_in(entry: bytes) -> bytes | None:
    """Return the id of the decision that an entry names; None where it names none."""
    try:
        return parse_id(parse_entry(entry).data["decision"])
    except (AuditLogError, KeyError, TypeError):
        # Somebody else wrote it, which the log's check will say.
        return None
