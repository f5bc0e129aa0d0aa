"""Proofs from stored tiles."""

from auditlog.core.merkle import NodeReader, prove_consistency, prove_inclusion
from auditlog.core.tiles import TileReader
from auditlog.log.growth import fetch_tile
from auditlog.storage import Objects

__all__ = ["consistency_proof", "inclusion_proof"]


def inclusion_proof(objects: Objects, index: int, size: int) -> tuple[bytes, ...]:
    """Prove that leaf `index` is in the tree of `size` (RFC 6962 §2.1.1)."""
    return prove_inclusion(index, size, _nodes(objects, size))


def consistency_proof(objects: Objects, old: int, new: int) -> tuple[bytes, ...]:
    """Prove that the tree of `new` begins with that of `old` (RFC 6962 §2.1.2)."""
    return prove_consistency(old, new, _nodes(objects, new))


def _nodes(objects: Objects, size: int) -> NodeReader:
    return TileReader(lambda tile: fetch_tile(objects.get, tile), size)
