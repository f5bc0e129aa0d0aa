"""What a data-protection officer does: tell one person everything, and forget another.

Both by the number under which the service knows them. One gets an archive with a proof
of each word in it. Of the other nothing opens any more, and nothing that was proven is
disproven by that.
"""

import time
import zipfile
from pathlib import Path
from typing import NamedTuple

from auditlog.core.errors import NotFoundError, PendingError
from auditlog.core.receipt import parse_receipt
from auditlog.core.record import parse_id
from auditlog.log.access import make_recipient
from auditlog.log.directory import open_log
from auditlog.log.erasing import (
    Erased,
    erase,
    erasure_receipt,
)
from auditlog.log.erasure_plan import plan_erasure
from auditlog.log.person_export import Exported, export_person
from auditlog.log.reader import Reader
from demo_service.deployment import Deployment
from demo_service.outside import Outside
from demo_service.processes import DemoError, Processes

__all__ = ["Archive", "export", "forget", "nothing_opens", "proof_of"]

_KIND = "person"
_SECONDS = 60.0


class Archive(NamedTuple):
    """What a person was given."""

    path: Path
    done: Exported

    def receipts(self) -> dict[str, bytes]:
        """Return the receipts in it, by name."""
        with zipfile.ZipFile(self.path) as archive:
            names = [n for n in archive.namelist() if n.startswith("receipts/")]
            return {name.partition("/")[2]: archive.read(name) for name in names}

    def every_byte(self) -> bytes:
        """Return all that is in it."""
        with zipfile.ZipFile(self.path) as archive:
            return b"".join(map(archive.read, archive.namelist()))


def export(made: Deployment, patient: str, path: Path) -> Archive:
    """Write all that is held on a patient, who asked for it."""
    with open_log(made.log) as log, path.open("wb") as file:
        done = export_person(
            log,
            _KIND,
            patient,
            file.write,
            recipient=make_recipient("the patient", "GDPR Article 15"),
            by={"login": "the hospital's data-protection officer"},
            channel="cli",
            now=time.time(),
        )
    return Archive(path, done)


def forget(made: Deployment, patient: str) -> Erased:
    """Erase all content about a patient, who asked for it."""
    now = time.time_ns() // 1000
    with open_log(made.log) as log:
        return erase(log, plan_erasure(log, _KIND, patient, now), now=now)


def proof_of(
    made: Deployment, outside: Outside, processes: Processes, erased: Erased
) -> bytes:
    """Return the receipt of an erasure, once everybody outside has seen it.

    It is for the person alone: that it is theirs is opened in it, and nowhere else.
    """
    assert erased.proof is not None
    opened = erased.proof.disclosure
    with open_log(made.log, policy=made.policy_path) as log:

        def anchored() -> bytes:
            try:
                receipt = erasure_receipt(log, erased.id, opened)
            except PendingError:
                return b""
            kinds = {one.kind for one in parse_receipt(receipt).anchors}
            return receipt if kinds == outside.kinds else b""

        return processes.wait_until("the erasure to be anchored", anchored, _SECONDS)


def nothing_opens(made: Deployment, decision: str) -> str:
    """Return what is said to who wants to read what was erased.

    Raises:
        DemoError: it opens.
    """
    with open_log(made.log) as log:
        if log.store.by_id(parse_id(decision)) is None:
            raise DemoError("an erased decision has lost its entry")
        try:
            Reader(log).content(decision)
        except NotFoundError as error:
            return str(error)
    raise DemoError("content that was erased opens")
