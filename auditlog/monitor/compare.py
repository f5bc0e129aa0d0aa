"""Two checkpoints that one log signed: can one history have both?

Which tiles lead from one to the other, any source may say: what they give is held to
the root that the log signed for the larger tree, by the verifier that every receipt is
checked with. So a lying source can hide a fork, and never make one.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from auditlog.core.checkpoint import SignedCheckpoint
from auditlog.core.errors import (
    AuditLogError,
    MalformedError,
    NotFoundError,
    VerificationError,
)
from auditlog.core.merkle import (
    EMPTY_ROOT,
    prove_consistency,
    tree_root,
    verify_consistency,
)
from auditlog.core.tiles import Tile, tile_path
from auditlog.log.proofs import TileReader
from auditlog.monitor.fork import Fork

__all__ = ["ContradictionError", "Tiles", "compare"]

Fetch = Callable[[Tile], bytes]


class Tiles(Protocol):
    """Who may have the tiles of a tree."""

    @property
    def url(self) -> str:
        """Where, for messages."""

    @property
    def own(self) -> bool:
        """Whether they are our own copy, whose damage says nothing about the log."""

    def tile(self, tile: Tile) -> bytes:
        """Return the hashes of a tile, as many as its width.

        Raises:
            NotFoundError: they are not there.
            AuditLogError: they cannot be had.
        """


class ContradictionError(VerificationError):
    """What a source served contradicts what the log signed, and proves nothing.

    The bytes came from somebody, unsigned: it is told and kept as a suspicion.
    """

    def __init__(self, message: str, received: dict[str, bytes]) -> None:
        super().__init__(message)
        self.received = received
        """What was received, by URL and path."""


def compare(
    one: SignedCheckpoint, other: SignedCheckpoint, sources: Sequence[Tiles]
) -> Fork | None:
    """Return the fork that two checkpoints of one origin are; None if they agree.

    Args:
        one: a checkpoint that the log signed.
        other: another one, of any size.
        sources: who may have the tiles of the larger one, the likeliest first.

    Raises:
        ContradictionError: all that was served lies in other trees than the signed one.
        NotFoundError: nobody gives the tiles.
        AuditLogError: it cannot be said now.
    """
    a, b = sorted((one, other), key=lambda signed: signed.checkpoint[1:])
    (_, m, root_a), (_, n, root_b) = a.checkpoint, b.checkpoint
    if m == n:
        return None if root_a == root_b else Fork(a.note, b.note)
    if m == 0:
        if root_a != EMPTY_ROOT:
            raise ContradictionError("it signed a root for the tree without leaves", {})
        return None
    failures: list[AuditLogError] = []
    for source in sources:
        try:
            root, hashes = _proof(m, n, root_b, source)
        except AuditLogError as error:
            failures.append(error)
            continue
        return None if root == root_a else Fork(a.note, b.note, root, hashes)
    raise _gravest(failures)


def _proof(
    m: int, n: int, end: bytes, source: Tiles
) -> tuple[bytes, tuple[bytes, ...]]:
    """Return the root of the first m leaves of the tree with root `end`, proven."""
    received: dict[str, bytes] = {}

    def fetch(tile: Tile) -> bytes:
        data = source.tile(tile)
        received[f"{source.url}/{tile_path(*tile)}"] = data
        return data

    node = TileReader(fetch, n)
    root = tree_root(m, node)
    hashes = prove_consistency(m, n, node)
    try:
        verify_consistency(m, root, n, end, hashes)
    except VerificationError:
        if source.own:
            raise NotFoundError("our own copy of its tiles is damaged") from None
        raise ContradictionError(
            f"the tiles that {source.url} serves do not give the root that was signed "
            f"at size {n}",
            received,
        ) from None
    return root, hashes


def _gravest(failures: Sequence[AuditLogError]) -> AuditLogError:
    """Return what says most: bytes that contradict before bytes that are not there."""
    for kind in (ContradictionError, MalformedError, AuditLogError):
        for error in failures:
            if isinstance(error, kind) and not (
                kind is AuditLogError and isinstance(error, NotFoundError)
            ):
                return error
    return failures[0] if failures else NotFoundError("nobody serves its tiles")
