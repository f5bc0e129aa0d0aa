"""One place where a log's checkpoints, tiles and bundles are served (C2SP tlog-tiles).

The log itself, a mirror, a witness's monitoring path: nothing that comes from any of
them is believed. Every answer is bounded in size and in time, and is exactly as long
as what was asked for; what it says is for the caller to hold against signed roots.
"""

import threading
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from auditlog.anchors.http import Response, get, parse_endpoint
from auditlog.core.encoding import MAX_TEXT
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    NotFoundError,
    VerificationError,
)
from auditlog.core.merkle import HASH_SIZE, leaf_hash
from auditlog.core.record import MAX_ENTRY
from auditlog.core.tiles import TILE_WIDTH, Tile, parse_bundle, tile_path

__all__ = ["MAX_BUNDLE", "Source", "Terms", "read_bundle"]

MAX_BUNDLE = TILE_WIDTH * (2 + MAX_ENTRY)
"""Bytes in the largest bundle that there can be."""

_GZIP = b"\x1f\x8b"
_GZIP_WINDOW = 31
"""Tells zlib to expect a gzip header, and the largest window."""
_ABSENT = frozenset({401, 403, 404, 410})
_PAUSES = (0.2, 1.0)
"""Seconds before a second and a third attempt."""


def _never() -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Terms:
    """How long a source is waited for, and who can end the wait."""

    timeout: float = 30.0
    """Seconds for one request."""
    stopped: Callable[[], bool] = _never
    """Whether the process is to end: no further request is made."""


@dataclass(slots=True)
class Source:
    """Where a log is served.

    Raises:
        ConfigurationError: on construction, when `url` is none that can be asked.
    """

    url: str
    terms: Terms = Terms()
    token: str = field(default="", repr=False)
    """For bundles only, of a log that gives them to auditors."""
    own: bool = False
    """As `auditlog.monitor.compare.Tiles` says."""
    requests: int = 0
    """Made so far."""
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        parse_endpoint(self.url)

    def checkpoint(self, path: str = "/checkpoint") -> bytes:
        """Return the checkpoint as served, a note that nobody has verified.

        Raises:
            NotFoundError: there is none, or not for us.
            AuditLogError: it cannot be had now.
        """
        return self._get(path, MAX_TEXT, attempts=1)

    def tile(self, tile: Tile) -> bytes:
        """Return the hashes of a tile; a partial one may be cut from the full one.

        Ask only for what a checkpoint implies that a key of the log has signed.

        Raises:
            NotFoundError: neither is there, or not for us.
            MalformedError: it has another length.
            AuditLogError: it cannot be had now.
        """
        size = HASH_SIZE * tile.width
        data = self._either(tile, HASH_SIZE * TILE_WIDTH)
        if len(data) not in (size, HASH_SIZE * TILE_WIDTH):
            raise MalformedError(
                f"{self.url}: expected {size} bytes in {tile_path(*tile)}, "
                f"got {len(data)}"
            )
        return data[:size]

    def bundle(self, tile: Tile) -> bytes:
        """Return a bundle as served, perhaps as gzip: see `read_bundle`.

        Raises:
            NotFoundError: it is not there, or not for us.
            AuditLogError: it cannot be had now.
        """
        return self._either(tile, MAX_BUNDLE)

    def _either(self, tile: Tile, limit: int) -> bytes:
        """Ask for a tile; where a partial one is gone, for the full one."""
        try:
            return self._get(f"/{tile_path(*tile)}", limit)
        except NotFoundError:
            if tile.width == TILE_WIDTH:
                raise
            try:
                return self._get(f"/{tile_path(tile.level, tile.index)}", limit)
            except NotFoundError:
                pass
            raise

    def _get(self, path: str, limit: int, attempts: int = 1 + len(_PAUSES)) -> bytes:
        for pause in _PAUSES[: attempts - 1]:
            try:
                return self._once(path, limit)
            except AuditLogError as error:
                # What is of another kind will be the same again.
                if type(error) is not AuditLogError or self.terms.stopped():
                    raise
            time.sleep(pause)
        return self._once(path, limit)

    def _once(self, path: str, limit: int) -> bytes:
        if self.terms.stopped():
            raise AuditLogError(f"{self.url}: not asked any more, we are to stop")
        with self._lock:
            self.requests += 1
        token = self.token if path.startswith("/tile/entries/") else ""
        deadline = time.monotonic() + self.terms.timeout
        response = get(
            parse_endpoint(self.url), path, deadline, limit=limit, token=token
        )
        return self._body(path, response)

    def _body(self, path: str, response: Response) -> bytes:
        status = response.status
        if status == 200:
            return response.body
        what = f"{self.url} answers {path} with status {status}"
        if status in _ABSENT:
            raise NotFoundError(what)
        if status == 429 or status >= 500:
            raise AuditLogError(what)
        raise MalformedError(what)


def read_bundle(data: bytes, hashes: Sequence[bytes]) -> list[bytes]:
    """Return the entries of a bundle, whose leaf hashes are these.

    A server may send any bundle as gzip (C2SP tlog-tiles), whether it says so or not;
    which it is shows by the hashes.

    Args:
        data: as served; a full bundle will do for a partial one.
        hashes: 1 to 256, of the tile of level 0 beside it.

    Raises:
        VerificationError: these are not the entries of the tile.
    """
    for plain in (data, _unzipped(data)):
        entries = _entries(plain)[: len(hashes)]
        if [leaf_hash(entry) for entry in entries] == list(hashes):
            return entries
    raise VerificationError("the entries served are not those of the tree")


def _entries(data: bytes) -> list[bytes]:
    try:
        return parse_bundle(data)
    except MalformedError:
        return []


def _unzipped(data: bytes) -> bytes:
    """Return what gzip holds, up to the largest bundle; nothing if it is no gzip."""
    if not data.startswith(_GZIP):
        return b""
    try:
        return zlib.decompressobj(_GZIP_WINDOW).decompress(data, MAX_BUNDLE)
    except zlib.error:
        return b""
