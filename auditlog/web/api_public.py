"""What everybody may read of a log over HTTP: checkpoints, hash tiles, proofs.

The first two are C2SP tlog-tiles, with bundles of entries, which need a token. Whoever
searches by leaf knows the hash of an entry and learns where it stands, no more.
"""

import base64
import threading
from typing import Annotated, Any

from fastapi import Query, Response
from fastapi.responses import JSONResponse

from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.note import split_unverified_note
from auditlog.core.proof import TlogProof, format_tlog_proof
from auditlog.core.tiles import parse_tile_path
from auditlog.log.leaves import find_leaf
from auditlog.log.publication import meets_quorum
from auditlog.log.views import parse_leaf
from auditlog.web.answers import (
    BRIEF,
    FOREVER,
    OCTETS,
    PRIVATE,
    Text,
    asked,
    number,
)
from auditlog.web.problems import RETRY_SECONDS, ProblemError, bad_request
from auditlog.web.source import Credentials, LogSource

__all__ = ["PublicApi"]


class PublicApi:
    """The handlers. They run in the framework's worker threads."""

    def __init__(self, log: LogSource) -> None:
        """Answer from a log."""
        self._log = log
        self._searching = threading.Lock()

    def checkpoint(self) -> Response:
        """Return the newest public checkpoint with its cosignatures (tlog-checkpoint).

        It is the newest that the quorum of the operator's policy cosigned. Where there
        is no quorum, the header `Auditlog-Checkpoint` says `unwitnessed`.
        """
        shown = self._log().public.checkpoint()
        headers = BRIEF | _marked(witnessed=shown.witnessed)
        return Response(
            shown.note, media_type="text/plain; charset=utf-8", headers=headers
        )

    def tile(self, path: str, credentials: Credentials) -> Response:
        """Return a hash tile, or to auditors a bundle of entries (C2SP tlog-tiles)."""
        tile = asked(parse_tile_path, f"tile/{path}")
        if tile.level != "entries":
            data = self._log().reader.tile(f"tile/{path}")
            return Response(data, media_type=OCTETS, headers=FOREVER)
        allowed = self._log.authorize(credentials, "auditor", everything=True)
        headers = PRIVATE | {"Vary": "Authorization"}
        data = allowed.reader.tile(f"tile/{path}")
        return Response(data, media_type=OCTETS, headers=headers)

    def inclusion(
        self, index: Text = None, leaf: Text = None, size: Text = None
    ) -> Response:
        """Prove that the entry at `index`, or with hash `leaf`, is in the tree.

        `size` is one that was published; the newest that was signed if absent, which
        may be newer than the public checkpoint, and is then marked as unwitnessed.
        """
        if (index is None) == (leaf is None):
            raise bad_request("give either index or leaf, and size if you like")
        tree = None if size is None else number(size, low=1)
        if leaf is not None:
            place = self._search(asked(parse_leaf, leaf), tree)
        else:
            place = number(str(index))
        proof = self._log().reader.inclusion(place, tree)
        witnessed = meets_quorum(proof.checkpoint, self._log().log.policy())
        headers = BRIEF | _marked(witnessed=witnessed)
        return JSONResponse(_inclusion_json(proof), headers=headers)

    def consistency(
        self,
        old: Annotated[str | None, Query(alias="from")] = None,
        new: Annotated[str | None, Query(alias="to")] = None,
    ) -> Response:
        """Prove that the tree of size `to` only appends to the tree of size `from`."""
        if old is None or new is None:
            raise bad_request("give two tree sizes, as in ?from=10&to=20")
        sizes = number(old, low=1), number(new, low=1)
        if sizes[0] > sizes[1]:
            raise bad_request("from is the older size, and at most to")
        hashes = self._log().reader.consistency(*sizes)
        body = {"from": sizes[0], "to": sizes[1], "hashes": _base64(hashes)}
        return JSONResponse(body, headers=BRIEF)

    def _search(self, leaf: bytes, size: int | None) -> int:
        """Return the index of a leaf; one search at a time, for it reads the tree."""
        opened = self._log()
        if size is None:
            checkpoint = split_unverified_note(opened.reader.checkpoint())[0]
            size = parse_checkpoint(checkpoint).size
        size = min(size, opened.log.store.size())
        if not self._searching.acquire(blocking=False):
            retry = {"Retry-After": RETRY_SECONDS}
            detail = "another search by leaf is under way; the index needs no search"
            raise ProblemError(503, "busy", detail, retry)
        try:
            return find_leaf(opened.log.store, leaf, size)
        finally:
            self._searching.release()


def _marked(*, witnessed: bool) -> dict[str, str]:
    """Return the header that says whether the policy's quorum cosigned."""
    return {"Auditlog-Checkpoint": "witnessed" if witnessed else "unwitnessed"}


def _inclusion_json(proof: TlogProof) -> dict[str, Any]:
    """Return the parts of a proof, and the whole as tlog-proof text for `verify`."""
    return {
        "index": proof.index,
        "hashes": _base64(proof.hashes),
        "checkpoint": proof.checkpoint.decode(),
        "proof": format_tlog_proof(proof).decode(),
    }


def _base64(hashes: tuple[bytes, ...]) -> list[str]:
    return [base64.b64encode(hash_).decode() for hash_ in hashes]
