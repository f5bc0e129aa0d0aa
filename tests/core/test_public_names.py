"""What strangers call: names, order of arguments, kinds of results, refusals."""

import inspect
from collections.abc import Callable
from typing import Any

import pytest

from auditlog.core import checkpoint, merkle, note, proof, tiles, verify
from auditlog.core.errors import AuditLogError, MalformedError, VerificationError
from tests.core.test_by_hand import POLICY, make_receipt

CALLS = [
    (merkle.leaf_hash, "entry"),
    (merkle.node_hash, "left right"),
    (merkle.root_hash, "leaf_hashes"),
    (merkle.verify_inclusion, "index size leaf proof root"),
    (merkle.verify_consistency, "old_size old_root new_size new_root proof"),
    (note.parse_vkey, "vkey"),
    (note.open_note, "note verifiers"),
    (tiles.tile_path, "level index width"),
    (tiles.parse_tile_path, "path"),
    (checkpoint.parse_checkpoint, "note_text"),
    (checkpoint.parse_policy, "text"),
    (proof.parse_tlog_proof, "data"),
    (verify.verify_receipt, "receipt policy"),
]


@pytest.mark.parametrize(("function", "names"), CALLS, ids=range(13))
def test_arguments_go_by_these_names(function: Callable[..., Any], names: str) -> None:
    parameters = inspect.signature(function).parameters.values()
    needed = [p for p in parameters if p.kind is not p.KEYWORD_ONLY]
    assert [p.name for p in needed] == names.split()
    assert all(p.kind is p.POSITIONAL_OR_KEYWORD for p in needed)


def test_values_have_these_fields() -> None:
    origin, size, root = "log.example", 0, merkle.EMPTY_ROOT
    parsed = checkpoint.parse_checkpoint(
        note_text=checkpoint.format_checkpoint(
            checkpoint.Checkpoint(origin, size, root)
        )
    )
    assert (parsed.origin, parsed.size, parsed.root) == (origin, size, root)
    assert proof.TlogProof._fields == ("extra", "index", "hashes", "checkpoint")
    assert tiles.tile_path(*tiles.parse_tile_path("tile/entries/001")) == (
        "tile/entries/001"
    )


def test_roots_of_whatever_yields_hashes() -> None:
    leaves = [merkle.leaf_hash(bytes([number])) for number in range(5)]
    assert merkle.root_hash(iter(leaves)) == merkle.root_hash(tuple(leaves))
    assert merkle.root_hash(iter([])) == merkle.root_hash([]) == merkle.EMPTY_ROOT


def test_verification_returns_nothing_to_ignore() -> None:
    leaf = merkle.leaf_hash(b"x")
    checks: list[Callable[[], Any]] = [
        lambda: merkle.verify_inclusion(0, 1, leaf, [], leaf),
        lambda: merkle.verify_consistency(1, leaf, 1, leaf, []),
    ]
    assert [check() for check in checks] == [None, None]
    with pytest.raises(VerificationError, match="inclusion proof leads to root"):
        merkle.verify_inclusion(0, 1, leaf, [], merkle.leaf_hash(b"y"))


@pytest.mark.parametrize(
    "value", [None, "", -1, 1.5, True, [], {}, object(), "\ud800"], ids=range(9)
)
@pytest.mark.parametrize(
    "wrap", [lambda value: value, lambda value: [value]], ids=["alone", "listed"]
)
def test_values_of_other_types_are_refused(
    value: Any, wrap: Callable[[Any], Any]
) -> None:
    item = wrap(value)
    refusals: list[Callable[[], Any]] = [
        lambda: merkle.verify_inclusion(item, item, item, item, item),
        lambda: merkle.verify_consistency(item, item, item, item, item),
        lambda: note.parse_vkey(item),
        lambda: note.open_note(item, []),
        lambda: tiles.parse_tile_path(item),
        lambda: tiles.tile_path(item, item, item),
        lambda: checkpoint.parse_checkpoint(item),
        lambda: checkpoint.parse_policy(item),
        lambda: proof.parse_tlog_proof(item),
        lambda: verify.verify_receipt(item, POLICY),
        lambda: verify.verify_receipt(make_receipt(), item),
        lambda: verify.verify_entry(item, item, POLICY),
    ]
    for refusal in refusals:
        with pytest.raises(MalformedError, match="expected"):
            refusal()


def test_every_refusal_is_one_of_ours() -> None:
    assert issubclass(MalformedError, AuditLogError)
    assert issubclass(VerificationError, AuditLogError)
    assert not issubclass(AuditLogError, ValueError | TypeError)
