r"""Which logs a witness serves: named one by one, or in lists that may grow.

A list has the format of the public witness network (``logs/v0``)::

    logs/v0

    vkey <vkey>
    origin <origin>          left out where it is the name of the key
    qpd <requests a day>
    contact <whom to ask>

Lines that are empty or begin with ``#`` mean nothing. Anything else refuses the whole
list, and the one that was read before stays in force. An origin may come again with
another key: any key of a log may sign for it. Lists are read again when they change. A
log that is taken out is not served any more, but never forgotten.
"""

import logging
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from auditlog.core.encoding import parse_decimal
from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from auditlog.core.note import ED25519, ML_DSA_44, Verifier, parse_vkey
from auditlog.web.witness_limits import Budget, per_day

__all__ = ["DEFAULT_QPD", "LogBook", "WitnessedLog", "parse_log_list"]

DEFAULT_QPD = 86_400
"""Requests a day that a log may make for which nothing else was said."""

_HEADER = "logs/v0"
_MAX_QPD = (1 << 31) - 1
_MAX_LIST = 1 << 26
_LOOK_SECONDS = 1.0
_FIELDS = ("vkey", "origin", "qpd", "contact")

_log = logging.getLogger("auditlog.witness")

_Stamp = tuple[int, int, int]


class WitnessedLog(NamedTuple):
    """One key of a log that a witness serves."""

    origin: str
    verifier: Verifier
    qpd: int = DEFAULT_QPD
    """add-checkpoint requests a day."""
    contact: str = ""


def parse_log_list(text: str) -> tuple[WitnessedLog, ...]:
    """Return the logs in a list, in order.

    Raises:
        MalformedError: some line is not understood, or is missing.
    """
    lines = list(_meaningful(text))
    if lines[:1] != [_HEADER]:
        raise MalformedError(f"expected the list to begin with {_HEADER}")
    logs: list[WitnessedLog] = []
    fields: dict[str, str] = {}
    for line in lines[1:]:
        name, _, value = line.partition(" ")
        expected = _expected(fields)
        if name not in expected or not value.strip():
            wanted = " or ".join(expected)
            raise MalformedError(f"log {len(logs) + 1}: expected {wanted} and a value")
        fields[name] = value.strip()
        if name == _FIELDS[-1]:
            logs.append(_witnessed(len(logs) + 1, fields))
            fields = {}
    if fields:
        wanted = " or ".join(_expected(fields))
        raise MalformedError(f"log {len(logs) + 1}: expected {wanted}, got the end")
    return tuple(logs)


def _meaningful(text: str) -> Iterator[str]:
    if len(text) > _MAX_LIST or any(c < " " and c not in "\n\t" for c in text):
        raise MalformedError("expected a list of up to 64 MiB, without controls")
    for line in text.split("\n"):
        stripped = line.strip(" \t")
        if stripped and not stripped.startswith("#"):
            yield stripped


def _expected(fields: dict[str, str]) -> tuple[str, ...]:
    if not fields:
        return ("vkey",)
    if "qpd" in fields:
        return ("contact",)
    return ("qpd",) if "origin" in fields else ("origin", "qpd")


def _witnessed(number: int, fields: dict[str, str]) -> WitnessedLog:
    try:
        verifier = _log_key(fields["vkey"])
        qpd = parse_decimal(fields["qpd"])
    except AuditLogError as error:
        raise MalformedError(f"log {number}: {error}") from None
    if not 1 <= qpd <= _MAX_QPD:
        raise MalformedError(
            f"log {number}: expected a qpd from 1 to {_MAX_QPD}, got {qpd}"
        )
    origin = fields.get("origin", "none")
    origin = verifier.name if origin == "none" else origin
    return WitnessedLog(origin, verifier, qpd, fields["contact"])


def _log_key(vkey: str) -> Verifier:
    verifier = parse_vkey(vkey)
    if verifier.type not in (ED25519, ML_DSA_44):
        raise ConfigurationError(
            f"{verifier.key} is a witness's key (type 0x{verifier.type:02x}), "
            "expected a log's"
        )
    return verifier


class LogBook:
    """The logs that are served now. `refresh` and `charge` belong to one thread."""

    def __init__(
        self,
        vkeys: Sequence[str],
        lists: Sequence[Path] = (),
        qpd: int = DEFAULT_QPD,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read all lists.

        Args:
            vkeys: logs named one by one; the origin of each is the name of its key.
            lists: files of the format above.
            qpd: requests a day for each log in `vkeys`.
            clock: seconds that never go back.

        Raises:
            ConfigurationError: no log is named and no list, or one cannot be used.
        """
        if not vkeys and not lists:
            raise ConfigurationError(
                "expected the vkey of at least one log, or a list of logs, got none"
            )
        self._named = tuple(_named(vkey, qpd) for vkey in dict.fromkeys(vkeys))
        self._lists = tuple(lists)
        self._clock = clock
        self._stamps: tuple[_Stamp | None, ...] = ()
        self._looked = 0.0
        self._budgets: dict[str, Budget] = {}
        self._qpds: dict[str, int] = {}
        self.keys: dict[str, tuple[Verifier, ...]] = {}
        """Keys by origin; another object after each change."""
        self._stamps = self._stamp()
        try:
            self._read()
        except MalformedError as error:
            raise ConfigurationError(str(error)) from None

    def refresh(self) -> bool:
        """Read lists that changed, and say whether that changed what is served."""
        if not self._lists or self._clock() - self._looked < _LOOK_SECONDS:
            return False
        self._looked = self._clock()
        stamps = self._stamp()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            self._read()
        except AuditLogError as error:
            _log.error("the logs served stay what they were: %s", error)
            return False
        _log.info("%d logs are served", len(self.keys))
        return True

    def charge(self, origin: str) -> int:
        """Count a request of a log; return 0, or the seconds that it has to wait."""
        return self._budgets[origin].take()

    def _stamp(self) -> tuple[_Stamp | None, ...]:
        return tuple(_stamp(path) for path in self._lists)

    def _read(self) -> None:
        keys: dict[str, tuple[Verifier, ...]] = {}
        qpds: dict[str, int] = {}
        for log in (
            *self._named,
            *(log for path in self._lists for log in _logs(path)),
        ):
            known = keys.get(log.origin, ())
            if log.verifier not in known:
                keys[log.origin] = (*known, log.verifier)
            qpds[log.origin] = max(log.qpd, qpds.get(log.origin, 0))
        # What was spent stays spent, unless the log may now do more or less.
        self._budgets = {
            origin: self._budgets[origin]
            if self._qpds.get(origin) == qpd
            else per_day(qpd, self._clock)
            for origin, qpd in qpds.items()
        }
        self._qpds, self.keys = qpds, keys


def _named(vkey: str, qpd: int) -> WitnessedLog:
    try:
        verifier = _log_key(vkey)
    except MalformedError as error:
        raise ConfigurationError(f"the vkey of a log: {error}") from None
    return WitnessedLog(verifier.name, verifier, qpd)


def _logs(path: Path) -> tuple[WitnessedLog, ...]:
    try:
        with path.open("rb") as file:
            text = file.read(_MAX_LIST + 1).decode()
        return parse_log_list(text)
    except OSError as error:
        raise MalformedError(f"{path}: {error.strerror}") from None
    except (MalformedError, UnicodeDecodeError) as error:
        raise MalformedError(f"{path}: {error}") from None


def _stamp(path: Path) -> _Stamp | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - one look, whatever it is
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
