"""A process that still works on a decision, as others see it."""

from auditlog.capture.exchange import Exchange
from auditlog.capture.subjects import Subject
from auditlog.core.record import format_id
from auditlog.log.description import Describer
from auditlog.log.directory import LogDirectory
from auditlog.log.emitter import Emitter
from auditlog.log.preparation import Preparation
from auditlog.storage.acceptance import AcceptanceFile
from auditlog.storage.journal import Journal
from tests.log.builders import exchange
from tests.log.erasures import ADA

__all__ = ["Working"]

ADAS = Subject("person", ADA)
ID = b"\x05" * 16


class Working:
    """Another process, with one decision that it still works on."""

    def __init__(self, log: LogDirectory, subject: Subject | None = ADAS) -> None:
        self.log = log
        self.emitter = Emitter(Journal.create(log.paths.journals, ID), ID)
        self.one = exchange(0, subject=subject)
        self.one.sequence = self.emitter.issue(self.one.id, self.one.time)
        self.emitter.put_on_record(self.one.sequence, self.one.id, self.one.time)
        self._preparation = Preparation(Describer(log.origin, ID, depth=1), log.keys)

    @property
    def id(self) -> str:
        return format_id(self.one.id)

    def store(self) -> None:
        self.log.store.append([self._preparation.prepare(self.one)])

    def accept(self, *others: Exchange) -> None:
        acceptance = AcceptanceFile.create(self.log.paths.journals, ID)
        made = [self._preparation.prepare(one) for one in (self.one, *others)]
        assert acceptance.append(made)
        acceptance.close(clean=False)

    def die(self) -> None:
        self.emitter.close(clean=False)
