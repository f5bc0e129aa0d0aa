"""The receipt of an erasure: kept as what opens it, until it can be made.

What shows whom an erasure was about is in the file that the person gets and nowhere
else. So it is there before anything is erased::

    {"disclosure": {"path": "context/subject", …}, "erasure": "<id of the entry>",
     "schema": "auditlog.erasure-opening.v1"}

and becomes the receipt as soon as that convinces whoever holds to the log's policy.
"""

import json
from pathlib import Path
from typing import Any

from auditlog.core.encoding import format_base64, parse_base64
from auditlog.core.errors import MalformedError, NotFoundError, PendingError
from auditlog.core.receipt import Disclosure
from auditlog.core.record import check_fields, parse_id, parse_json
from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import erasure_receipt
from auditlog.log.leader import make_checkpoint
from auditlog.log.reader import Reader
from auditlog.storage.files import storage_errors
from auditlog.storage.whole_file import write_whole

__all__ = ["complete", "keep"]

_SCHEMA = "auditlog.erasure-opening.v1"
_MOST = 1 << 16


def keep(path: Path, erasure: str, disclosure: Disclosure) -> None:
    """Write down, for its owner alone, what opens an erasure.

    Raises:
        AuditLogError: it cannot be written.
    """
    opened = disclosure._asdict()
    for name in ("salt", "value"):
        opened[name] = format_base64(opened[name])
    known = {"schema": _SCHEMA, "erasure": erasure, "disclosure": opened}
    write_whole(path, json.dumps(known, indent=2).encode() + b"\n", private=True)


def complete(log: LogDirectory, path: Path) -> None:
    """Make the receipt of what was kept in a file.

    Args:
        log: the opened log, not read-only.
        path: of the file.

    Raises:
        NotFoundError: nothing was erased: whoever wrote the file died before that.
        PendingError: it would convince nobody yet; the file is as it was.
        MalformedError: it holds something else.
        AuditLogError: it could not be made; the file is as it was.
    """
    erasure, disclosure = _read(path)
    make_checkpoint(log)
    reader = Reader(log)
    try:
        level = reader.decision(erasure).level
    except NotFoundError:
        raise NotFoundError(
            f"the erasure that {path} would open was never begun: remove the file, "
            "and erase again"
        ) from None
    if level not in reader.firm_levels():
        raise PendingError(
            f"{path} holds what opens the receipt, and is none yet: the entry is "
            f"{level}, and the log's policy asks for witnesses. When they have "
            "cosigned (a service that runs asks them, or `auditlog checkpoint "
            f"--witness`): `auditlog erase --finish --receipt {path}`"
        )
    write_whole(path, erasure_receipt(log, erasure, disclosure), private=True)


def _read(path: Path) -> tuple[str, Disclosure]:
    with storage_errors(f"read {path}"), path.open("rb") as file:
        data = file.read(_MOST + 1)
    kinds: dict[str, type] = {"schema": str, "erasure": str, "disclosure": dict}
    said = check_fields(parse_json(data, limit=_MOST), "what opens an erasure", kinds)
    if said["schema"] != _SCHEMA:
        raise MalformedError(f"expected the schema {_SCHEMA}, got another")
    parse_id(said["erasure"])
    return said["erasure"], _disclosure(said["disclosure"])


def _disclosure(said: dict[str, Any]) -> Disclosure:
    kinds: dict[str, type] = {"index": int, "path": str, "salt": str, "value": str}
    check_fields(said, "a disclosure", kinds)
    salt, value = parse_base64(said["salt"]), parse_base64(said["value"])
    return Disclosure(said["index"], said["path"], salt, value)
