"""A fork proves itself, to somebody who has the file and a policy, and nothing else."""

import base64
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.checkpoint import Policy, parse_policy
from auditlog.core.errors import MalformedError, UntrustedError, VerificationError
from auditlog.monitor.fork import Fork, format_fork, parse_fork, verify_fork
from tests.monitor.tiled import Key, TiledLog
from tests.reference import MTH, PROOF

COUNT = int(os.environ.get("MUTATIONS", "2000"))
SEED = int(os.environ.get("MUTATIONS_SEED", "3"))
ROOT = Path(__file__).parents[2]

HONEST = TiledLog([b"entry %d" % i for i in range(20)])
LIAR = HONEST.rewritten(3)
POLICY = parse_policy(HONEST.policy())


def fork_of(one: TiledLog, size: int, other: TiledLog, larger: int) -> bytes:
    """The file by the definitions: b's own root at a's size, and the way from it."""
    entries = other.entries[:larger]
    hashes = tuple(PROOF(size, entries))
    a, b = one.note(size, when=5), other.note(larger)
    return format_fork(Fork(a, b, MTH(entries[:size]), hashes))


def equal_sizes(size: int = 10) -> bytes:
    notes = sorted((HONEST, LIAR), key=lambda log: log.root(size))
    return format_fork(Fork(notes[0].note(size), notes[1].note(size)))


GROWN = fork_of(HONEST, 7, LIAR, 20)


class TestProven:
    @pytest.mark.parametrize("size", [4, 5, 7, 8, 15, 16, 19])
    def test_a_rewritten_entry_under_a_larger_tree(self, size: int) -> None:
        verdict = verify_fork(fork_of(HONEST, size, LIAR, 20), POLICY)
        assert verdict.a.checkpoint.root == HONEST.root(size)
        assert verdict.root == LIAR.root(size)
        assert verdict.b.checkpoint == (HONEST.origin, 20, LIAR.root(20))
        assert f"size {size} with root {HONEST.root(size).hex()}" in verdict.claim

    def test_either_may_be_the_larger_one(self) -> None:
        verdict = verify_fork(fork_of(LIAR, 7, HONEST, 20), POLICY)
        assert verdict.root == HONEST.root(7)

    def test_two_roots_of_one_size_need_no_proof(self) -> None:
        verdict = verify_fork(equal_sizes(), POLICY)
        roots = {verdict.a.checkpoint.root, verdict.b.checkpoint.root}
        assert roots == {HONEST.root(10), LIAR.root(10)}
        assert verdict.root == verdict.b.checkpoint.root

    def test_no_quorum_is_needed_and_cosignatures_name_who_saw_what(self) -> None:
        verdict = verify_fork(GROWN, parse_policy(HONEST.policy("w")))
        assert [(w.name, when) for w, when in verdict.a.cosignatures] == [("w", 5)]
        assert verdict.b.cosignatures == ()
        assert verdict.not_proven[0] == "which of the two is the true history"

    def test_the_longest_notes_fit(self) -> None:
        """Extension lines, of characters that JSON writes as two."""
        padding = b'"' * ((1 << 20) - 1000) + b"\n"
        notes = []
        for log in sorted((HONEST, LIAR), key=lambda log: log.root(10)):
            text = log.text(10) + padding
            notes.append(text + b"\n" + log.key.line(text))
        verdict = verify_fork(format_fork(Fork(notes[0], notes[1])), POLICY)
        assert verdict.b.note == notes[1]

    def test_it_reads_as_it_was_written(self) -> None:
        assert format_fork(parse_fork(GROWN)) == GROWN

    def test_in_a_process_that_has_the_file_and_the_policy(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "fork.json").write_bytes(GROWN)
        (tmp_path / "policy").write_text(HONEST.policy())
        program = (
            f"import sys; sys.path.insert(0, {str(ROOT)!r}); old = {{*sys.modules}}\n"
            "from auditlog.core.checkpoint import parse_policy\n"
            "from auditlog.monitor.fork import verify_fork\n"
            "data, policy = open('fork.json', 'rb').read(), open('policy').read()\n"
            "print(verify_fork(data, parse_policy(policy)).claim)\n"
            "print(*sorted(n for n in sys.modules if n.startswith('auditlog')))\n"
            "print(*{n.split('.')[0] for n in {*sys.modules} - old}"
            " - {*sys.stdlib_module_names})"
        )
        done = subprocess.run(
            [sys.executable, "-I", "-c", program],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        claim, ours, roots = done.stdout.splitlines()
        assert claim.startswith(f"{HONEST.origin} signed two histories: one of size 7")
        above = {one for one in ours.split() if not one.startswith("auditlog.core")}
        assert above == {"auditlog", "auditlog.monitor", "auditlog.monitor.fork"}
        known = {"auditlog", "cryptography", "_cffi_backend", "_openssl"}
        assert {*roots.split()} <= known


class TestRefused:
    def test_one_history(self) -> None:
        honest = fork_of(HONEST, 7, HONEST, 20)
        with pytest.raises(VerificationError, match="no fork: both checkpoints have"):
            verify_fork(honest, POLICY)

    def test_one_checkpoint_twice(self) -> None:
        twice = format_fork(Fork(HONEST.note(7), HONEST.note(7, when=9)))
        with pytest.raises(VerificationError, match="no fork: both checkpoints have"):
            verify_fork(twice, POLICY)

    def test_a_root_that_the_larger_tree_does_not_have(self) -> None:
        fork = parse_fork(GROWN)
        lie = format_fork(Fork(fork.a, fork.b, bytes(32), fork.hashes))
        with pytest.raises(VerificationError, match="consistency proof leads to old"):
            verify_fork(lie, POLICY)

    def test_a_proof_of_another_tree(self) -> None:
        fork = parse_fork(GROWN)
        hashes = (bytes(32), *fork.hashes[1:])
        with pytest.raises(VerificationError, match="consistency proof leads to"):
            verify_fork(format_fork(Fork(fork.a, fork.b, fork.root, hashes)), POLICY)

    def test_somebody_elses_key(self) -> None:
        forged = TiledLog(LIAR.entries)
        forged.key = Key(HONEST.origin, seed=b"f" * 32)
        with pytest.raises(UntrustedError, match="expected a signature by one of 2"):
            verify_fork(fork_of(HONEST, 7, forged, 20), POLICY)

    def test_a_log_that_the_policy_does_not_know(self) -> None:
        other = TiledLog(HONEST.entries, "other.example/log")
        liar = other.rewritten(3)
        with pytest.raises(UntrustedError, match="expected an origin of the policy"):
            verify_fork(fork_of(other, 7, liar, 20), POLICY)

    def test_a_signature_that_does_not_verify(self) -> None:
        note = LIAR.note(20)
        cut = note.rindex(b" ") + 10
        changed = note[:cut] + (b"B" if note[cut : cut + 1] == b"A" else b"A")
        fork = parse_fork(GROWN)
        data = Fork(fork.a, changed + note[cut + 1 :], fork.root, fork.hashes)
        with pytest.raises(VerificationError, match="does not verify"):
            verify_fork(format_fork(data), POLICY)

    @pytest.mark.parametrize(
        ("fork", "message"),
        [
            (Fork(HONEST.note(9), LIAR.note(7), bytes(32)), "the smaller tree first"),
            (Fork(HONEST.note(0), LIAR.note(7), bytes(32)), "with leaves, got 0 and 7"),
            (Fork(HONEST.note(7), LIAR.note(9)), "root and hashes in a fork if the"),
            (
                Fork(HONEST.note(7), TiledLog([b"x"] * 9, "o.example").note(9)),
                "two checkpoints of one log, got two origins",
            ),
            (Fork(HONEST.note(7), b"no note"), "expected an empty line before the"),
        ],
    )
    def test_not_two_checkpoints_in_order(self, fork: Fork, message: str) -> None:
        with pytest.raises(MalformedError, match=message):
            format_fork(fork)

    def test_equal_sizes_have_one_order(self) -> None:
        fork = parse_fork(equal_sizes())
        with pytest.raises(MalformedError, match="the smaller root first"):
            format_fork(Fork(fork.b, fork.a))

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"schema": "auditlog.fork.v2"}, "expected the schema auditlog.fork.v1"),
            ({"extra": 1}, "expected a fork with the fields"),
            ({"root": None}, "expected str as root of a fork"),
            ({"root": "AAAA"}, "expected a hash of 32 bytes, got 3"),
            ({"hashes": ["AA=="] * 65}, "expected up to 64 hashes, got 65"),
            ({"hashes": [7]}, "expected canonical padded base64"),
            ({"a": 7}, "expected str as a of a fork"),
        ],
    )
    def test_other_fields(self, change: dict[str, Any], message: str) -> None:
        fields = json.loads(GROWN) | change
        with pytest.raises(MalformedError, match=message):
            parse_fork(json.dumps(fields).encode())

    @pytest.mark.parametrize("name", ["root", "hashes"])
    def test_half_a_proof(self, name: str) -> None:
        fields = json.loads(GROWN)
        del fields[name]
        with pytest.raises(MalformedError, match="root and hashes together"):
            parse_fork(json.dumps(fields).encode())

    @pytest.mark.parametrize(
        "spell",
        [
            lambda data: data[:-1],
            lambda data: data + b"\n",
            lambda data: json.dumps(json.loads(data)).encode() + b"\n",
            lambda data: data.replace(b'{"a"', b'{ "a"'),
        ],
        ids=["no newline", "two newlines", "escaped", "spaced"],
    )
    def test_another_spelling(self, spell: Any) -> None:
        with pytest.raises(MalformedError, match="expected a canonical fork"):
            parse_fork(spell(GROWN))

    def test_too_long(self) -> None:
        with pytest.raises(MalformedError, match="at most 5242880 bytes of JSON"):
            parse_fork(b" " * (1 << 23))


@given(st.data())
def test_no_honest_log_ever_looks_forked(data: st.DataObject) -> None:
    larger = data.draw(st.integers(1, 20))
    size = data.draw(st.integers(1, larger))
    grown = size < larger
    entries = HONEST.entries[:larger]
    fork = Fork(
        HONEST.note(size),
        HONEST.note(larger),
        MTH(entries[:size]) if grown else None,
        tuple(PROOF(size, entries)) if grown else (),
    )
    with pytest.raises(VerificationError, match="no fork"):
        verify_fork(format_fork(fork), POLICY)


# --- mutations ------------------------------------------------------------------------


def _signed_views() -> dict[tuple[int, bytes], str]:
    """All that this log ever signed, by size and root."""
    return {
        (size, log.root(size)): name
        for name, log in (("honest", HONEST), ("liar", LIAR))
        for size in range(21)
    }


VIEWS = _signed_views()
SOURCES = [
    GROWN,
    equal_sizes(),
    fork_of(LIAR, 8, HONEST, 17),
    # Those are no forks, and no mutation makes them one.
    fork_of(HONEST, 7, HONEST, 20),
    format_fork(Fork(HONEST.note(7), HONEST.note(7, when=9))),
    fork_of(HONEST, 2, LIAR, 20),
]


def _mutated_bytes(chance: random.Random, data: bytes) -> bytes:
    at, size = chance.randrange(len(data)), chance.choice([1, 1, 2, 44])
    match chance.randrange(5):
        case 0:
            return (
                data[:at]
                + bytes([data[at] ^ 1 << chance.randrange(8)])
                + data[at + 1 :]
            )
        case 1:
            return data[:at] + chance.randbytes(size) + data[at:]
        case 2:
            return data[:at] + data[at + size :]
        case 3:
            return data[: at + size] + data[at:]
        case _:
            return (
                data[:at] + chance.choice(b'\0\n "+/0=A\\{').to_bytes() + data[at + 1 :]
            )


def _mutated_fields(chance: random.Random, data: bytes) -> bytes:
    fields, other = json.loads(data), json.loads(chance.choice(SOURCES))
    for _ in range(chance.choice([1, 1, 2, 3])):
        name = chance.choice(["a", "b", "root", "hashes", "swap", "hash", "note"])
        if name == "swap":
            fields["a"], fields["b"] = fields["b"], fields["a"]
        elif name == "hash" and fields.get("hashes"):
            at = chance.randrange(len(fields["hashes"]))
            new = base64.b64encode(chance.randbytes(32)).decode()
            fields["hashes"][at : at + chance.randrange(2)] = [new]
        elif name == "note":
            log, size = chance.choice([HONEST, LIAR]), chance.randrange(21)
            fields[chance.choice("ab")] = log.note(size).decode()
        elif name in other:
            fields[name] = other[name]
        else:
            fields.pop(name, None)
    return (
        json.dumps(
            fields, ensure_ascii=False, separators=(",", ":"), sort_keys=True
        ).encode()
        + b"\n"
    )


def _holds(data: bytes, policy: Policy) -> bool:
    """Say whether it verifies; what does has two histories that really were signed."""
    try:
        verdict = verify_fork(data, policy)
    except (MalformedError, VerificationError):
        return False
    (_, m, a), (_, n, b) = verdict.a.checkpoint, verdict.b.checkpoint
    one, other = VIEWS[m, a], VIEWS[n, b]
    assert 0 < m <= n
    assert {one, other} == {"honest", "liar"}
    assert HONEST.root(m) != LIAR.root(m)
    assert verdict.root == {"honest": HONEST, "liar": LIAR}[other].root(m)
    return True


def test_no_mutation_proves_a_fork_that_is_none() -> None:
    chance = random.Random(SEED)
    ends: Counter[bool] = Counter()
    for number in range(COUNT):
        source = chance.choice(SOURCES)
        mutate = chance.choice([_mutated_bytes, _mutated_fields])
        mutant = mutate(chance, source)
        try:
            ends[_holds(mutant, POLICY)] += 1
        except (AssertionError, KeyError) as error:
            error.add_note(f"mutation {number} of seed {SEED}: {mutant!r}")
            raise
    assert set(ends) == {True, False}
    print(f"{dict(ends)} of {COUNT}")
