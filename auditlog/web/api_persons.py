"""What the privacy officer asks over HTTP: forget a person, hand out what is held.

Whom it is about stands in the body of a POST and nowhere else: what is in an address
ends up in the logs of servers, proxies and browsers, where no erasure reaches it. No
message and no header names anybody either.

A token with a scope will not do: what is held on somebody does not end where a scope
does.
"""

import json
import logging
import threading
from collections.abc import Callable
from typing import Any

from fastapi import Response
from fastapi.responses import JSONResponse

from auditlog.capture.subjects import PERSON
from auditlog.core.errors import AuditLogError, NotFoundError
from auditlog.core.receipt import Receipt, format_receipt
from auditlog.log.access import Access, make_recipient, record_person_access
from auditlog.log.directory import LogDirectory
from auditlog.log.erasing import (
    Erased,
    erase,
    erasure_receipt,
    plan_erasure,
)
from auditlog.log.erasure_entry import Proof
from auditlog.log.erasure_views import erasures_json, plan_json
from auditlog.log.finishing import settled
from auditlog.log.leader import make_checkpoint
from auditlog.log.person import NOTHING_HELD
from auditlog.log.person_export import export_person
from auditlog.log.reader import Reader
from auditlog.log.said import subject_of
from auditlog.web.answers import NO_STORE, Body, read_fields, takes, wanted
from auditlog.web.api_content import reader_of
from auditlog.web.problems import RETRY_SECONDS, ProblemError
from auditlog.web.source import Credentials, LogSource
from auditlog.web.streaming import Piped, PipedResponse, Write

__all__ = ["ERASURE_BODY", "EXPORT_BODY", "PersonsApi"]

_log = logging.getLogger("auditlog.web")

_TEXT = {"type": "string"}
_SUBJECT = {"subject": _TEXT, "kind": {"type": "string", "default": PERSON}}
ERASURE_BODY = takes(
    {**_SUBJECT, "dryRun": {"type": "boolean", "default": True}, "reason": _TEXT},
    ["subject"],
)
EXPORT_BODY = takes(
    {**_SUBJECT, "recipient": _TEXT, "purpose": _TEXT}, ["subject", "recipient"]
)
_REASON = 1024
_EXPORTS = 2
"""Archives that may be made at once."""
_NAMELESS = {"Content-Disposition": 'attachment; filename="export.zip"'}


class PersonsApi:
    """The handlers. They run in the framework's worker threads."""

    def __init__(self, log: LogSource, clock: Callable[[], float]) -> None:
        """Answer from a log; `clock` gives seconds since the epoch."""
        self._log = log
        self._clock = clock
        self._exporting = threading.BoundedSemaphore(_EXPORTS)

    def erasures(self, credentials: Credentials) -> Response:
        """List erasures, and what each waits for; nothing tells whom one was about."""
        allowed = self._log.authorize(credentials, "privacy", everything=True)
        rows = erasures_json(allowed.log, self._now())
        return JSONResponse({"erasures": rows}, headers=NO_STORE)

    def erase(self, credentials: Credentials, body: Body) -> Response:
        """Say what erasing a person would do; with `dryRun` false, do it for ever.

        The first is a search for what is held on them, and logged as one. The second
        answers with a receipt for the person: only it shows whom the erasure was about,
        and nobody can make it again.
        """
        allowed = self._log.authorize(credentials, "privacy", everything=True)
        kinds = {"kind": str, "dryRun": bool, "reason": str}
        said = read_fields(body, "an erasure", {"subject": str}, kinds)
        kind, identifier = _subject(said)
        reason = wanted(lambda: _reason(said.get("reason")))
        log = allowed.log
        log.claim()
        now = self._now()
        plan = _held(lambda: plan_erasure(log, kind, identifier, now))
        if said.get("dryRun", True):
            access = Access("search", "api", reader_of(allowed.grant))
            record_person_access(log, plan.key_id, access, now=self._clock())
            return JSONResponse(plan_json(plan), headers=NO_STORE)
        by = reader_of(allowed.grant)
        erased = _held(lambda: erase(log, plan, now=now, reason=reason, by=by))
        erased = settled(log, erased, now)
        return JSONResponse(_erased_json(log, erased), headers=NO_STORE)

    def export(self, credentials: Credentials, body: Body) -> Response:
        """Hand out all that is held on a person, as a zip archive with receipts.

        It is sent as it is made. One that breaks off is no archive.
        """
        allowed = self._log.authorize(credentials, "privacy", everything=True)
        optional = {"kind": str, "purpose": str}
        required = {"subject": str, "recipient": str}
        said = read_fields(body, "an export", required, optional)
        kind, identifier = _subject(said)
        recipient = wanted(
            lambda: make_recipient(said["recipient"], said.get("purpose"))
        )
        log, by, now = allowed.log, reader_of(allowed.grant), self._clock()
        log.claim()

        def produce(write: Write) -> object:
            return export_person(
                log,
                kind,
                identifier,
                write,
                recipient=recipient,
                by=by,
                channel="api",
                now=now,
            )

        archive = _held(lambda: self._piped(produce))
        headers = NO_STORE | _NAMELESS
        return PipedResponse(archive, "application/zip", headers)

    def _piped(self, produce: Callable[[Write], object]) -> Piped:
        """Begin an archive, if not too many are being made."""
        if not self._exporting.acquire(blocking=False):
            detail = f"{_EXPORTS} exports are under way: memory and disk are shared"
            raise ProblemError(503, "busy", detail, {"Retry-After": RETRY_SECONDS})

        def run(write: Write) -> None:
            try:
                produce(write)
            finally:
                self._exporting.release()

        return Piped(run)

    def _now(self) -> int:
        return int(self._clock() * 1_000_000)


def _subject(said: dict[str, Any]) -> tuple[str, str]:
    """Return kind and identifier, as everywhere."""
    found = wanted(lambda: subject_of(said["subject"], said.get("kind", PERSON)))
    return found.kind, found.identifier


def _reason(text: str | None) -> str | None:
    if text is not None and not 0 < len(text) <= _REASON:
        raise ProblemError(
            400, "malformed", f"expected a reason of 1 to {_REASON} characters"
        )
    return text


def _held(act: Callable[[], Any]) -> Any:
    """Do something about a person; of whom nothing is held, it says no more."""
    try:
        return act()
    except NotFoundError:
        raise ProblemError(404, "not-found", NOTHING_HELD) from None


def _erased_json(log: LogDirectory, erased: Erased) -> dict[str, Any]:
    """Return what was done, with what shows the person that it was about them.

    What opens the receipt is kept nowhere, so that it has to come with this answer:
    what is accepted is signed now, whoever leads the log. Where that fails, or the
    policy asks for witnesses that have not cosigned, there is `opening`, the two
    members that make the receipt of the erasure the person's own, whenever it is made.
    """
    known: dict[str, Any] = erased._asdict()
    del known["proof"]
    if erased.proof is None:
        # Another process was first to erase them, and has it.
        return known | {"receipt": None}
    known["receipt"] = None
    try:
        make_checkpoint(log)
        receipt = erasure_receipt(log, erased.id, erased.proof.disclosure)
        known |= {"receipt": receipt.decode()}
        reader = Reader(log)
        if reader.decision(erased.id).level in reader.firm_levels():
            return known
    except AuditLogError as error:
        _log.error("no receipt of an erasure yet: %s", error)
    return known | {"opening": _opening(erased.proof)}


def _opening(proof: Proof) -> dict[str, Any]:
    opening, disclosure = proof
    bare = Receipt(entry=b"", proof=b"", opening=opening, disclosures=(disclosure,))
    fields = json.loads(format_receipt(bare))
    return {name: fields[name] for name in ("commitment", "disclosures")}
