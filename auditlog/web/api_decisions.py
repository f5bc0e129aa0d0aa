"""Decisions over HTTP: listed, looked up, proven, and who read them."""

from typing import Annotated

from fastapi import Query, Response
from fastapi.responses import JSONResponse

from auditlog.core.errors import PendingError
from auditlog.core.record import DECISION, parse_id
from auditlog.log.access_list import accesses_of
from auditlog.log.views import decision_json, page_json, parse_moment
from auditlog.storage import Query as Lookup
from auditlog.web.answers import NO_STORE, Text, asked, number, pending, receipt_file
from auditlog.web.source import Credentials, LogSource

__all__ = ["DecisionsApi"]

_MAX_PAGE = 500


class DecisionsApi:
    """The handlers. They run in the framework's worker threads."""

    def __init__(self, log: LogSource) -> None:
        """Answer from a log."""
        self._log = log

    def decisions(
        self,
        credentials: Credentials,
        since: Annotated[str | None, Query(alias="from")] = None,
        until: Annotated[str | None, Query(alias="to")] = None,
        model: Text = None,
        version: Text = None,
        route: Text = None,
        outcome: Text = None,
        cursor: Text = None,
        limit: Text = None,
    ) -> Response:
        """List decisions, newest first; `next` of a page is the `cursor` of the next.

        `from` is included and `to` is not; both are dates or times, UTC unless they
        say otherwise. `limit` is 1 to 500, and 50 if absent.
        """
        allowed = self._log.authorize(credentials, "auditor")
        size = 50 if limit is None else number(limit, low=1, high=_MAX_PAGE)
        lookup = Lookup(
            time_from=None if since is None else asked(parse_moment, since),
            time_to=None if until is None else asked(parse_moment, until),
            model=model,
            version=version,
            route=route,
            outcome=outcome,
            type=DECISION,
            before=None if cursor is None else number(cursor),
            limit=size + 1,
        )
        rows = allowed.reader.find(allowed.grant.scope.narrow(lookup))
        return JSONResponse(page_json(rows, size), headers=NO_STORE)

    def decision(self, id: str, credentials: Credentials) -> Response:  # noqa: A002
        """Return what is known of a decision, and which level it has reached."""
        allowed = self._log.authorize(credentials, "auditor")
        asked(parse_id, id)
        return JSONResponse(decision_json(allowed.visible(id)), headers=NO_STORE)

    def receipt(self, id: str, credentials: Credentials) -> Response:  # noqa: A002
        """Return the receipt of a decision; 202 until it is in the signed tree.

        It discloses nothing of its content: that is what `disclosures` are for.
        """
        allowed = self._log.authorize(credentials, "auditor")
        asked(parse_id, id)
        view = allowed.visible(id)
        try:
            data = allowed.reader.receipt(id)
        except PendingError as error:
            return pending(id, view.level, error)
        return receipt_file(id, data)

    def accesses(self, id: str, credentials: Credentials) -> Response:  # noqa: A002
        """List who read content of a decision, or was handed some, newest first.

        Also what was read of its amendments. At most 1,000.
        """
        allowed = self._log.authorize(credentials, "content")
        asked(parse_id, id)
        view = allowed.visible(id)
        found = accesses_of(allowed.log, allowed.reader, view)
        return JSONResponse({"id": id, "accesses": found}, headers=NO_STORE)
