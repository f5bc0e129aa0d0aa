"""What receipts that verify, each alone, say against each other.

A commitment binds whoever made it: of one entry no two receipts can open one leaf to
two values. But an operator can commit to what is not so, and show each party the half
that suits it:

- one decision whose leaves do not fit together: a field beside a body that holds
  another one, a field twice, a piece at another's place, a message of a session with
  the number of one in the other direction. What several receipts of one entry open is
  put together here, and held against each other as if one receipt had opened it all;
- two decisions for one call: with one id, with one number of one process, or as the
  same item of a batch; two erasures of one key, each shown to another person as theirs;
- two logs: other entries at one index, other roots at one size, also of entries that a
  receipt only tells along.

Whatever is found is evidence of fraud by whoever signed, or of a key that was taken; no
mistake of a third party makes two receipts verify and contradict each other.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from auditlog.core.errors import MalformedError
from auditlog.core.merkle import leaf_hash
from auditlog.core.proof import parse_tlog_proof
from auditlog.core.receipt import Receipt
from auditlog.core.record import (
    DECISION,
    Entry,
    format_id,
    parse_entry,
    parse_id,
    parse_json,
)
from auditlog.core.verify import Contradiction, Verdict, contradictions
from auditlog.verifier_opened import clash, merged

__all__ = ["Verified", "compare"]

_FRAUD = "evidence of fraud:"
_BATCH, _ERASURE = "auditlog.batch", "auditlog.erasure.v1"
_ANNOTATIONS = "context/annotations"


class Verified(NamedTuple):
    """A file that was found to hold."""

    verdict: Verdict
    entry: bytes
    receipt: Receipt | None
    """None where it is a proof without content."""


def compare(files: Sequence[Verified]) -> list[Contradiction]:
    """Return the pairs of files that no honest log can have given, each once."""
    found = contradictions([file.verdict for file in files])
    found += _entries(files)
    groups: dict[tuple[str, bytes], list[int]] = {}
    for place, file in enumerate(files):
        if file.receipt is not None and file.receipt.opening is not None:
            key = file.verdict.origin, file.verdict.leaf
            groups.setdefault(key, []).append(place)
    for group in groups.values():
        found += _together(files, group)
    return list(dict.fromkeys(found))


# --- two entries where there can be one -----------------------------------------------


def _entries(files: Sequence[Verified]) -> Iterator[Contradiction]:
    """Yield what two entries say against each other, also such as are told along."""
    known: dict[tuple[Any, ...], tuple[int, object]] = {}
    for place, file in enumerate(files):
        for subject, value, what in _facts(file):
            first, expected = known.setdefault(subject, (place, value))
            # Of a single file it is the verifier's own matter.
            if value != expected and first != place:
                yield Contradiction(first, place, what)


def _facts(file: Verified) -> Iterator[tuple[tuple[Any, ...], object, str]]:
    """Yield (subject, value, what two values mean) of all that has one value."""
    log = file.verdict.origin
    entry = parse_entry(file.entry)
    related = () if file.receipt is None else file.receipt.related
    stands = [
        (file.entry, file.verdict.index),
        *((item.entry, parse_tlog_proof(item.proof).index) for item in related),
    ]
    for encoded, index in stands:
        id_, leaf = format_id(parse_entry(encoded).id), leaf_hash(encoded)
        forked = f"the log {log} has forked: it signed two entries with index {index}"
        yield (log, "leaf", index), leaf, forked
        yield (
            (log, "id", id_),
            index,
            f"{_FRAUD} the log {log} holds two entries with id {id_}",
        )
    if entry.type == _ERASURE and file.receipt is not None:
        for item in file.receipt.disclosures:
            if item.path == "context/subject":
                what = f"{_FRAUD} two persons were told that one key was theirs"
                yield (log, "key", str(entry.data.get("key"))), item.value, what
    if entry.type == DECISION:
        yield from _number(log, entry, file.verdict.leaf)
        if file.receipt is not None:
            yield from _batch(log, entry, file.receipt)


def _number(
    log: str, entry: Entry, leaf: bytes
) -> Iterator[tuple[tuple[Any, ...], object, str]]:
    emitter, sequence = entry.data.get("emitter"), entry.data.get("sequence")
    if isinstance(emitter, str) and type(sequence) is int:
        what = (
            f"{_FRAUD} the log {log} holds two decisions with the number {sequence} of "
            "one process, which gives each number once"
        )
        yield (log, "number", emitter, sequence), leaf, what


def _batch(
    log: str, entry: Entry, receipt: Receipt
) -> Iterator[tuple[tuple[Any, ...], object, str]]:
    """Yield which item of which batch a decision is, where that was disclosed."""
    said = _batch_of(receipt)
    size, whole = said.get("size"), said.get("decision", format_id(entry.id))
    if type(size) is not int or not _is_id(whole):
        return
    batch = f"the batch of decision {whole}"
    yield (log, "size", whole), size, f"{_FRAUD} {batch} has two sizes"
    index = said.get("index")
    if type(index) is int:
        what = f"{_FRAUD} there are two decisions for item {index} of {batch}"
        yield (log, "item", whole, index), entry.id, what


def _batch_of(receipt: Receipt) -> dict[str, Any]:
    for item in receipt.disclosures:
        if item.path == _ANNOTATIONS:
            try:
                said = parse_json(item.value, limit=len(item.value))
            except MalformedError:
                return {}
            batch = said.get(_BATCH) if isinstance(said, dict) else None
            return batch if isinstance(batch, dict) else {}
    return {}


def _is_id(text: object) -> bool:
    try:
        return isinstance(text, str) and bool(parse_id(text))
    except MalformedError:
        return False


# --- what is opened of one entry ------------------------------------------------------


def _together(files: Sequence[Verified], group: list[int]) -> Iterator[Contradiction]:
    """Yield which receipts of one entry cannot be opened together."""
    first, *later = group
    known = _receipt(files[first])
    for number, place in enumerate(later, 1):
        more = _receipt(files[place])
        what = clash(known, more)
        if what is None:
            known = merged(known, more)
            continue
        pairs = ((at, clash(_receipt(files[at]), more)) for at in group[:number])
        # Where no two of them clash, it takes them all.
        other, why = next(((at, why) for at, why in pairs if why), (first, what))
        yield Contradiction(
            other,
            place,
            f"{_FRAUD} both are of one entry, {files[place].verdict.id}, and what is "
            f"opened of it cannot be true together: {why}",
        )


def _receipt(file: Verified) -> Receipt:
    assert file.receipt is not None
    return file.receipt
