"""What was captured, over HTTP: read it, disclose some of it, amend a decision.

Each of them adds an entry to the log, and answers once that is durable. Who gets no
answer asks again: a reading is logged twice then, and an amendment may be there twice,
which `GET /api/v1/decisions/{id}` shows.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, get_args

from fastapi import Response
from fastapi.responses import JSONResponse

from auditlog.capture.redaction.configured import choke_point_beyond_http
from auditlog.core.errors import MalformedError, NotFoundError, PendingError
from auditlog.core.record import format_id, parse_id
from auditlog.log.access import Access, kept_paths, make_recipient, record_access
from auditlog.log.amending import append_amendment
from auditlog.log.amendment import Amendment, AmendmentKind, amendment
from auditlog.log.content import Content, Part
from auditlog.log.content_views import opened_json
from auditlog.log.disclosing import MAX_FIELDS, disclose
from auditlog.log.tokens import Grant
from auditlog.web.answers import (
    NO_STORE,
    OCTETS,
    Body,
    Text,
    asked,
    pending,
    read_fields,
    receipt_file,
    takes,
    wanted,
)
from auditlog.web.problems import bad_request
from auditlog.web.source import Authorized, Credentials, LogSource

__all__ = ["AMENDMENT_BODY", "DISCLOSURE_BODY", "ContentApi", "reader_of"]

_TEXT = {"type": "string"}
DISCLOSURE_BODY = takes(
    {
        "fields": {"type": "array", "items": _TEXT, "maxItems": MAX_FIELDS},
        "all": {"const": True},
        "recipient": _TEXT,
        "purpose": _TEXT,
    },
    ["recipient"],
)
AMENDMENT_BODY = takes(
    {
        "kind": {"enum": list(get_args(AmendmentKind))},
        "by": _TEXT,
        "reason": _TEXT,
        "label": {"type": ["string", "integer", "boolean"]},
        "score": {"type": ["string", "integer"]},
        "attributes": {"type": "object"},
    },
    ["kind"],
)
_RAW = {
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "Content-Disposition": "attachment",
}


def reader_of(grant: Grant) -> dict[str, str]:
    """Return who reads, for the log."""
    return {"token": grant.id, "label": grant.label}


class ContentApi:
    """The handlers. They run in the framework's worker threads."""

    def __init__(self, log: LogSource, clock: Callable[[], float]) -> None:
        """Answer from a log; `clock` gives seconds since the epoch."""
        self._log = log
        self._clock = clock

    def content(
        self,
        id: str,  # noqa: A002
        credentials: Credentials,
        part: Text = None,
    ) -> Response:
        """Return what was captured of a decision; the reading is an entry in the log.

        With `part`, such as `request` or `context/outcome`, the bytes of that alone;
        `Auditlog-Capped` says whether only the first of them were kept.
        """
        allowed = self._log.authorize(credentials, "content")
        asked(parse_id, id)
        view = allowed.visible(id)
        try:
            content, reading = allowed.reader.read(id)
        except PendingError as error:
            return pending(id, view.level, error)
        if part is not None:
            return self._part(allowed, id, _part_of(content, part))
        self._record(allowed, id, kept_paths(content))
        shown = opened_json(view, content, reading)
        return JSONResponse({"id": id, **shown}, headers=NO_STORE)

    def _part(self, allowed: Authorized, id_: str, part: Part) -> Response:
        self._record(allowed, id_, [part.path])
        capped = "false" if part.leaf_hash is None else "true"
        headers = NO_STORE | _RAW | {"Auditlog-Capped": capped}
        return Response(part.value, media_type=OCTETS, headers=headers)

    def _record(self, allowed: Authorized, id_: str, paths: list[str]) -> None:
        allowed.log.claim()
        said = Access("content", "api", reader_of(allowed.grant), paths)
        record_access(allowed.log, id_, said, now=self._clock())

    def disclosures(
        self,
        id: str,  # noqa: A002
        credentials: Credentials,
        body: Body,
    ) -> Response:
        """Open parts of a decision for somebody, in a receipt; 202 until it is signed.

        Either `fields`, such as `request/age`, or `all`, which opens everything that is
        kept and gives the secret. To whom it is handed, and what for, is sealed in the
        entry about it, which `Auditlog-Access` names.
        """
        allowed = self._log.authorize(credentials, "content")
        asked(parse_id, id)
        kinds = {"fields": list, "all": bool, "purpose": str}
        said = read_fields(body, "a disclosure", {"recipient": str}, kinds)
        fields = _fields(said)
        recipient = wanted(
            lambda: make_recipient(said["recipient"], said.get("purpose"))
        )
        view = allowed.visible(id)
        allowed.log.claim()
        try:
            given = disclose(
                allowed.log,
                id,
                fields,
                recipient=recipient,
                by=reader_of(allowed.grant),
                channel="api",
                now=self._clock(),
            )
        except PendingError as error:
            return pending(id, view.level, error)
        return receipt_file(id, given.receipt, {"Auditlog-Access": given.access})

    def amendments(
        self,
        id: str,  # noqa: A002
        credentials: Credentials,
        body: Body,
    ) -> Response:
        """Say later what became known of a decision; it is durable with the answer.

        All but `kind` is sealed. Decimals are strings, as everywhere in the log. Which
        token it was is kept beside `by`.
        """
        allowed = self._log.authorize(credentials, "reviewer")
        asked(parse_id, id)
        optional = {"by": str, "reason": str, "label": object, "score": object}
        optional |= {"attributes": dict}
        said = read_fields(body, "an amendment", {"kind": str}, optional)
        amended = wanted(lambda: _amendment(id, said, allowed.grant))
        allowed.visible(id)
        # By the rules of this moment: an application may add some when it starts.
        redaction = choke_point_beyond_http(allowed.opened.config)
        amended = amended._replace(redaction=redaction)
        allowed.log.claim()
        now = int(self._clock() * 1_000_000)
        new = format_id(append_amendment(allowed.log, amended, now))
        known = {"id": new, "decision": id, "kind": amended.kind, "level": "accepted"}
        headers = NO_STORE | {"Location": f"../{new}"}
        return JSONResponse(known, status_code=201, headers=headers)


def _part_of(content: Content, path: str) -> Part:
    for part in content.kept:
        if part.path == path:
            return part
    became = content.became(path)[1]
    why = "" if became is None else f": it was {became} when it was recorded"
    raise NotFoundError(f"nothing was kept at {path[:80]!r}{why}")


def _fields(said: Mapping[str, Any]) -> list[str] | None:
    """Return the paths to be opened; None for all."""
    if ("fields" in said) == ("all" in said) or said.get("all") is False:
        raise bad_request('give either "fields" or "all": true')
    if "all" in said:
        return None
    fields = said["fields"]
    if not 0 < len(fields) <= MAX_FIELDS or not all(type(f) is str for f in fields):
        raise bad_request(f"expected 1 to {MAX_FIELDS} fields, each a text")
    return list(fields)


def _amendment(id_: str, said: Mapping[str, Any], grant: Grant) -> Amendment:
    more = {name: value for name, value in said.items() if value is not None}
    kind, score = more.pop("kind"), more.pop("score", None)
    made = amendment(id_, kind, score=_score(score), **more)
    token = {"token": reader_of(grant)}
    return made._replace(facts=made.facts.plus("user", token))


def _score(value: object) -> int | Decimal | None:
    if value is None or type(value) is int:
        return value
    try:
        if type(value) is str:
            return Decimal(value)
    except InvalidOperation:
        pass
    raise MalformedError("expected a score as a decimal number in a string")
