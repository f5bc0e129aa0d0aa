"""Many logs under one digest: two second opinions agree, and no path can be bent."""

import base64
import hashlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.anchors.attestation import TAG, anchor_digest
from auditlog.anchors.batch import (
    MAX_BATCH,
    BatchPath,
    aggregate,
    anchored_digest,
    format_path,
    parse_path,
)
from auditlog.core.errors import AuditLogError, MalformedError, VerificationError
from tests.oracle import proof_leads_to, proof_of, root_of
from tests.reference import MTH, PATH

SIZES = [*range(1, 18), 31, 32, 33, 100]


def things(size: int) -> tuple[list[bytes], list[bytes]]:
    """Return digests of so many logs, and a salt for each."""
    digests = [hashlib.sha256(b"note %d" % at).digest() for at in range(size)]
    return digests, [
        hashlib.sha256(b"salt %d" % at).digest()[:16] for at in range(size)
    ]


@pytest.mark.parametrize("size", SIZES)
def test_the_tree_is_that_of_the_definition_and_of_merkletools(size: int) -> None:
    digests, salts = things(size)
    top, paths = aggregate(digests, salts)
    leaves = [salt + digest for salt, digest in zip(salts, digests, strict=True)]
    hashes = [hashlib.sha256(b"\0" + leaf).digest() for leaf in leaves]
    root = MTH(leaves)
    assert root == root_of(hashes)
    expected = TAG + b"batch" + size.to_bytes(8, "big") + root
    assert top == hashlib.sha256(expected).digest()
    for at, path in enumerate(paths):
        assert list(path.hashes) == PATH(at, leaves) == proof_of(hashes, at)
        assert proof_leads_to(at, size, hashes[at], path.hashes, root)
        assert path == (salts[at], at, size, root, path.hashes)
        assert anchored_digest(digests[at], path) == top


@given(st.integers(1, 40), st.data())
def test_each_log_finds_the_digest_and_no_other_log_s(
    size: int, data: st.DataObject
) -> None:
    digests, salts = things(size)
    top, paths = aggregate(digests, salts)
    at, other = (data.draw(st.integers(0, size - 1)) for _ in range(2))
    again = parse_path(format_path(paths[at]))
    assert again == paths[at]
    assert anchored_digest(digests[at], again) == top
    if at != other:
        with pytest.raises(VerificationError, match="inclusion proof leads to root"):
            anchored_digest(digests[other], paths[at])


def test_a_log_alone_is_a_batch_of_one() -> None:
    digests, salts = things(1)
    top, (path,) = aggregate(digests, salts)
    assert path.hashes == ()
    assert anchored_digest(digests[0], path) == top
    assert top not in (digests[0], path.root)


def test_a_salt_hides_which_log_it_is() -> None:
    # Who knows the note of another log cannot find it among the hashes of a path.
    digests, salts = things(2)
    _, paths = aggregate(digests, salts)
    (sibling,) = paths[0].hashes
    assert sibling != hashlib.sha256(b"\0" + digests[1]).digest()
    assert sibling != hashlib.sha256(b"\0" + digests[1] + salts[0]).digest()
    _, other = aggregate(digests, [salts[0], salts[0]])
    assert other[0].hashes != paths[0].hashes


# --- attacks --------------------------------------------------------------------------


DIGESTS, SALTS = things(7)
TOP, PATHS = aggregate(DIGESTS, SALTS)
PATH_3 = PATHS[3]


def bent(**changes: Any) -> BatchPath:
    return PATH_3._replace(**changes)


@pytest.mark.parametrize(
    "path",
    [
        *(pytest.param(bent(index=at), id=f"index {at}") for at in (0, 1, 2, 4, 6)),
        pytest.param(bent(hashes=PATH_3.hashes[::-1]), id="order"),
        pytest.param(bent(hashes=PATH_3.hashes[1:]), id="shorter"),
        pytest.param(bent(hashes=(*PATH_3.hashes, bytes(32))), id="longer"),
        pytest.param(bent(hashes=(bytes(32), *PATH_3.hashes[1:])), id="hash"),
        pytest.param(bent(salt=bytes(16)), id="salt"),
        pytest.param(bent(root=bytes(32)), id="root"),
        pytest.param(bent(index=7), id="index outside"),
        pytest.param(bent(size=3), id="size below the index"),
        pytest.param(bent(size=100), id="size of another height"),
    ],
)
def test_a_bent_path_leads_nowhere(path: BatchPath) -> None:
    with pytest.raises(VerificationError):
        anchored_digest(DIGESTS[3], path)


def test_a_size_with_the_same_path_gives_another_digest() -> None:
    assert anchored_digest(DIGESTS[3], bent(size=8)) != TOP


def test_an_inner_node_is_no_leaf() -> None:
    # With the halves of the tree as "salt" and "digest", a tree without prefixes would
    # take its root for a leaf.
    whole = b"".join(
        (hashlib.sha256(b"\0" + SALTS[0] + DIGESTS[0]).digest(), bytes(32))
    )
    inner = hashlib.sha256(b"\1" + whole).digest()
    path = BatchPath(whole[:16], 0, 1, inner, ())
    with pytest.raises(VerificationError, match="inclusion proof leads to root"):
        anchored_digest(whole[16:], path)
    for one in PATHS:
        for sibling in one.hashes:
            short = BatchPath(one.salt, 0, 2, one.root, (sibling,))
            with pytest.raises(VerificationError):
                anchored_digest(sibling, short)


def test_a_batch_is_no_note_and_no_batch_of_batches() -> None:
    assert anchor_digest(b"batch" + (7).to_bytes(8, "big") + PATH_3.root) == TOP
    # So no note may be taken for a batch: notes hold no zero byte, sizes do.
    assert b"\0" in MAX_BATCH.to_bytes(8, "big")
    salts = [b"s" * 16, b"t" * 16]
    outer, paths = aggregate([TOP, DIGESTS[0]], salts)
    assert anchored_digest(TOP, paths[0]) == outer
    with pytest.raises(VerificationError):
        anchored_digest(DIGESTS[3], paths[0])


# --- the path as JSON -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"salt": base64.b64encode(bytes(15)).decode()}, "a salt of 16 bytes, got 15"),
        ({"salt": base64.b64encode(bytes(17)).decode()}, "a salt of 16 bytes, got 17"),
        ({"salt": "AAAA"}, "expected a salt of 16 bytes, got 3"),
        ({"salt": "?"}, "expected canonical padded base64"),
        ({"size": 0}, "expected a batch of 1 to 1048576 logs"),
        ({"size": -1}, "expected a batch of 1 to 1048576 logs"),
        ({"size": MAX_BATCH + 1}, "expected a batch of 1 to 1048576 logs"),
        ({"size": True}, "expected int as size of a batch path, got bool"),
        ({"size": "7"}, "expected int as size of a batch path, got str"),
        ({"index": None}, "expected int as index of a batch path, got NoneType"),
        ({"index": -1}, "expected an index below the size of the batch"),
        ({"index": 7}, "expected an index below the size of the batch"),
        ({"hashes": ["AA=="]}, "expected a hash of 32 bytes, got 1"),
        ({"hashes": [7]}, "expected canonical padded base64"),
        ({"hashes": [format_path(PATH_3)["root"]] * 21}, "expected up to 20 hashes"),
        ({"hashes": {}}, "expected list as hashes of a batch path, got dict"),
        ({"root": ""}, "expected a hash of 32 bytes, got 0"),
        ({"more": 1}, "expected a batch path with the fields"),
    ],
    ids=str,
)
def test_refused_paths(change: dict[str, Any], message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_path(format_path(PATH_3) | change)


@pytest.mark.parametrize("name", ["hashes", "index", "root", "salt", "size"])
def test_a_path_lacks_nothing(name: str) -> None:
    fields = format_path(PATH_3)
    del fields[name]
    with pytest.raises(MalformedError, match="expected a batch path with the fields"):
        parse_path(fields)


@pytest.mark.parametrize("value", [None, [], "x", 1, {}])
def test_what_is_no_path_at_all(value: Any) -> None:
    with pytest.raises(AuditLogError, match="expected a batch path with the fields"):
        parse_path(value)
