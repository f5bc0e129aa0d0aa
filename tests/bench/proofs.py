"""Group c: proofs, by id and by index, and their verification, as a log grows."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle
from typing import Any, NamedTuple

from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.merkle import leaf_hash, verify_inclusion
from auditlog.core.note import split_unverified_note
from auditlog.core.record import format_id
from auditlog.log.directory import LogDirectory
from auditlog.log.reader import Reader
from tests.bench.context import Context
from tests.bench.growing import grow_to, make_pattern
from tests.bench.peers import NOT_INSTALLED, has, load
from tests.bench.prepared import make_log
from tests.bench.report import Row, at_most, compare, missing
from tests.bench.timing import interleave, median, per_call
from tests.bench.workload import KIB

__all__ = ["run"]

_FAR = 10_000_000
_SECONDS = 0.6
_SLICES = 5
_MILLI = 1e3


class _Figures(NamedTuple):
    """Milliseconds of one call at one size."""

    receipt: float
    by_id: float
    prove: float
    verify: float


def run(context: Context) -> Iterator[Row]:
    """Measure at each size, then say what follows for a log of ten million."""
    context.say("proofs")
    ours: dict[int, _Figures] = {}
    peers: dict[int, _Figures] = {}
    with ExitStack() as stack:
        directory = stack.enter_context(context.directory())
        pattern = make_pattern(directory / "pattern")
        log = stack.enter_context(make_log(directory / "log"))
        tree = None
        if has("pymerkle"):
            made = load("pymerkle").SqliteTree(str(directory / "pymerkle.sqlite3"))
            tree = stack.enter_context(made)
        for size in context.scale.sizes:
            for _ in grow_to(log, pattern, [size], content=False):
                pass
            ours[size] = _ours(log, size)
            if tree is not None:
                peers[size] = _pymerkle(tree, size)
    for size in context.scale.sizes:
        yield from _rows(size, ours[size], peers.get(size))
    yield from _extrapolated(ours)


def _ours(log: LogDirectory, size: int) -> _Figures:
    reader, choose = Reader(log), random.Random(size)
    rows = log.store.index_rows(0, size)
    some = [rows[choose.randrange(size)] for _ in range(64)]

    following = cycle(some)
    proofs = {row.id: reader.inclusion(row.index or 0) for row in some}
    note = next(iter(proofs.values())).checkpoint
    checkpoint = parse_checkpoint(split_unverified_note(note)[0])
    leaves = {row.id: leaf_hash(reader.entry_at(row.index or 0)) for row in some}

    def prove_by_id(row: Any) -> object:
        found = log.store.by_id(row.id)
        assert found is not None
        return reader.inclusion(found.index or 0)

    def verify(row: Any) -> None:
        proof, leaf = proofs[row.id], leaves[row.id]
        verify_inclusion(proof.index, size, leaf, proof.hashes, checkpoint.root)

    calls: dict[str, Callable[[], object]] = {
        "receipt": lambda: reader.receipt(format_id(next(following).id)),
        "by_id": lambda: prove_by_id(next(following)),
        "prove": lambda: reader.inclusion(next(following).index or 0),
        "verify": lambda: verify(some[0]),
    }
    slices = {
        name: lambda call=call: per_call(call, _SECONDS / _SLICES)
        for name, call in calls.items()
    }
    found = interleave(slices, _SLICES)
    return _Figures(**{name: median(each) * _MILLI for name, each in found.items()})


def _pymerkle(tree: Any, size: int) -> _Figures:
    have, choose = tree.get_size(), random.Random(size)
    tree.append_entries(choose.randbytes(KIB) for _ in range(size - have))
    some = [1 + choose.randrange(size) for _ in range(64)]
    following = cycle(some)
    prove = per_call(lambda: tree.prove_inclusion(next(following)), _SECONDS)
    root = tree.get_root()
    proofs = [(tree.get_leaf(index), tree.prove_inclusion(index)) for index in some]
    known = cycle(proofs)
    check = load("pymerkle").verify_inclusion

    def verify() -> None:
        base, proof = next(known)
        check(base, root, proof)

    verified = per_call(verify, _SECONDS) * _MILLI
    return _Figures(math.nan, math.nan, prove * _MILLI, verified)


def _rows(size: int, ours: _Figures, peer: _Figures | None) -> Iterator[Row]:
    name = f"c {{}} at {size:,}"
    yield compare(name.format("receipt by id"), ours.receipt, "ms")
    yield compare(name.format("proof by id"), ours.by_id, "ms", None, at_most(1))
    prove, verify = name.format("prove index"), name.format("verify")
    if peer is None:
        yield missing(f"{prove}: peer pymerkle", ours.prove, "ms", NOT_INSTALLED)
        yield missing(f"{verify}: peer pymerkle", ours.verify, "ms", NOT_INSTALLED)
    else:
        yield compare(f"{prove}: peer pymerkle", ours.prove, "ms", peer.prove)
        yield compare(f"{verify}: peer pymerkle", ours.verify, "ms", peer.verify)


def _extrapolated(ours: dict[int, _Figures]) -> Iterator[Row]:
    """Go on along the line through the smallest and the largest size in log n."""
    small, large = min(ours), max(ours)
    decades = math.log10(large / small)
    for what in ("by_id", "receipt"):
        at_small, at_large = getattr(ours[small], what), getattr(ours[large], what)
        slope = (at_large - at_small) / decades
        far = at_large + slope * math.log10(_FAR / large)
        title = {"by_id": "proof by id", "receipt": "receipt by id"}[what]
        name = f"c {title} at {_FAR:,}, extrapolated in log n"
        yield compare(name, far, "ms", None, at_most(1), gate=what == "by_id")
