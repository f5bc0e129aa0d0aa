"""The operator's anchors: ``<log dir>/anchors.toml``, read strictly.

::

    [[anchor]]
    kind = "rfc3161"     # rfc3161, evm or ots
    name = "tsa-one"     # yours, a-z 0-9 . _ -, never another one's in this log
    url = "https://…"    # and whatever else the kind takes

One table for each; two of a kind are two anchors. Without the file there are none. It
is read again when it changes. Secrets stand in files of their own, which it names.
"""

import tomllib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

from auditlog.anchors.attestation import Anchor
from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.log.anchor_entry import NAME

__all__ = ["KINDS", "MAX_ANCHORS", "AnchorFile", "Configure", "anchor_names"]

Configure = Callable[[str, Mapping[str, Any], Path], Anchor]
"""Makes an anchor of its name, its options, and the directory that files are in.

It raises ConfigurationError for what is missing, unknown or unusable.
"""

MAX_ANCHORS = 16
_MAX_BYTES = 1 << 16


def _configure(
    kind: str, name: str, options: Mapping[str, Any], directory: Path
) -> Anchor:
    """Load a kind when its first table is read: most logs need few of them."""
    try:
        module = import_module(f"auditlog.anchors.{kind}.anchor")
    except ImportError as error:
        raise ConfigurationError(f"kind {kind} cannot be used here: {error}") from None
    anchor: Anchor = module.configure(name, options, directory)
    return anchor


KINDS: Mapping[str, Configure] = {
    kind: partial(_configure, kind) for kind in ("evm", "ots", "rfc3161")
}
"""The kinds that a table may name, and what makes an anchor of it."""


class _Table(NamedTuple):
    kind: str
    name: str
    options: dict[str, Any]


class AnchorFile:
    """One file of anchors; a missing one is empty. Not for several threads at once."""

    def __init__(self, path: Path, kinds: Mapping[str, Configure] = KINDS) -> None:
        """Name the file; nothing is read yet."""
        self.path = path
        self._kinds = kinds
        self._seen: tuple[int, ...] | None = None
        self._anchors: tuple[Anchor, ...] = ()

    def anchors(self) -> tuple[Anchor, ...]:
        """Return the anchors in the order of the file; the same ones until it changes.

        Raises:
            ConfigurationError: naming the table, what was expected and what came.
        """
        seen = self._look()
        if seen != self._seen:
            self._anchors = tuple(self._make(table) for table in self._tables())
            self._seen = seen
        return self._anchors

    def each(self) -> list[tuple[str, str, Anchor | ConfigurationError]]:
        """Return name and kind of each, with the anchor or why there is none.

        Raises:
            ConfigurationError: the file itself cannot be read.
        """
        found: list[tuple[str, str, Anchor | ConfigurationError]] = []
        for table in self._tables():
            try:
                found.append((table.name, table.kind, self._make(table)))
            except ConfigurationError as error:
                found.append((table.name, table.kind, error))
        return found

    def kinds(self) -> dict[str, str]:
        """Return the kind of each by its name, without making anything of them.

        Raises:
            ConfigurationError: the file itself cannot be read.
        """
        return {table.name: table.kind for table in self._tables()}

    def _look(self) -> tuple[int, ...]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return ()
        except OSError as error:
            reason = error.strerror
            raise ConfigurationError(f"cannot read {self.path}: {reason}") from None
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _tables(self) -> list[_Table]:
        tables = _read(self.path)
        if len(tables) > MAX_ANCHORS:
            raise ConfigurationError(
                f"{self.path}: expected at most {MAX_ANCHORS} anchors, "
                f"got {len(tables)}"
            )
        found: dict[str, _Table] = {}
        for number, options in enumerate(tables, 1):
            table = self._table(f"{self.path}, anchor {number}", options)
            if table.name in found:
                raise ConfigurationError(
                    f"{self.path}, anchor {number}: expected a name of its own, got "
                    f"{table.name!r} again"
                )
            found[table.name] = table
        return list(found.values())

    def _table(self, where: str, options: Any) -> _Table:
        if type(options) is not dict:
            raise ConfigurationError(f"{where}: expected a table [[anchor]]")
        rest = dict(options)
        kind, name = rest.pop("kind", None), rest.pop("name", None)
        if type(kind) is not str:
            raise ConfigurationError(f"{where}: expected a kind, got {kind!r}")
        if type(name) is not str or not NAME.fullmatch(name):
            raise ConfigurationError(
                f"{where}: name takes 1 to 64 of a-z 0-9 . _ -; got {name!r}"
            )
        return _Table(kind, name, rest)

    def _make(self, table: _Table) -> Anchor:
        where = f"{self.path}, anchor {table.name}"
        if table.kind not in self._kinds:
            known = ", ".join(sorted(self._kinds))
            raise ConfigurationError(
                f"{where}: kind takes one of {known}; got {table.kind!r}"
            )
        try:
            anchor = self._kinds[table.kind](
                table.name, table.options, self.path.parent
            )
        except AuditLogError as error:
            raise ConfigurationError(f"{where}: {error}") from None
        # Without its message, which may hold anything, a key even.
        except Exception as error:  # noqa: BLE001
            kind = type(error).__name__
            raise ConfigurationError(f"{where}: a fault of ours ({kind})") from None
        assert (anchor.name, anchor.kind) == (table.name, table.kind)
        return anchor


def anchor_names(path: Path) -> list[str]:
    """Return the names that stand in a file of anchors, none if it is none."""
    try:
        return list(AnchorFile(path).kinds())
    except ConfigurationError:
        return []


def _read(path: Path) -> Sequence[Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MAX_BYTES:
        raise ConfigurationError(f"{path}: expected at most {_MAX_BYTES} bytes")
    try:
        found = tomllib.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: expected TOML: {error}") from None
    tables = found.pop("anchor", [])
    if found or type(tables) is not list:
        unknown = ", ".join(sorted(found)) or "one table"
        raise ConfigurationError(
            f"{path}: expected tables [[anchor]] and nothing else, got {unknown[:100]}"
        )
    return tables
