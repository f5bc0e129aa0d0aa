"""What a witness answers, mutated: its own word for this tree and time, or nothing.

``MUTATIONS=100000`` makes as many, ``MUTATIONS_SEED`` others; a failure names the seed.
"""

import os
import random
from collections import Counter
from collections.abc import Callable

import pytest

from auditlog.anchors.witness_answers import Question, verified_line
from auditlog.core.checkpoint import Witness
from auditlog.core.errors import MalformedError, VerificationError
from auditlog.core.note import COSIGNATURE_ED25519, Signature, make_signer
from tests.witnesses import NOW, SomeLog, witness_signers

COUNT = int(os.environ.get("MUTATIONS", "2000"))
SEED = int(os.environ.get("MUTATIONS_SEED", "7"))
LOG = SomeLog()
SIGNERS = witness_signers()
STRANGER = make_signer("stranger.example", COSIGNATURE_ED25519, b"s" * 32)
SIZE = 9
Mutation = Callable[[random.Random, bytes], bytes]


def _line(chance: random.Random) -> bytes:
    """A line that somebody signed once: over another tree, at another time."""
    signer = chance.choice([*SIGNERS, STRANGER])
    size, fork = chance.choice([SIZE, 8, 10]), chance.choice([None, 3])
    text = chance.choice([LOG, SomeLog("log.example/b")]).text(size, fork)
    return signer.sign(text, NOW + chance.choice([-(10**6), -400, 0, 10, 400]))


def _bit(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + bytes([data[at] ^ 1 << chance.randrange(8)]) + data[at + 1 :]


def _byte(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + chance.choice(b"\0\n +/=A\xe2").to_bytes() + data[at + 1 :]


def _cut(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data))
    return data[:at] + data[at + chance.choice([1, 2, 4, 100, 5000]) :]


def _insert(chance: random.Random, data: bytes) -> bytes:
    at = chance.randrange(len(data) + 1)
    return data[:at] + chance.randbytes(chance.randint(1, 3)) + data[at:]


def _drop_or_double(chance: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    chosen = chance.choice(lines)
    lines.remove(chosen)
    return b"".join(lines + [chosen] * chance.choice([0, 2]))


def _add(chance: random.Random, data: bytes) -> bytes:
    lines = [*data.splitlines(keepends=True), _line(chance)]
    chance.shuffle(lines)
    return b"".join(lines)


def _replace(chance: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    lines[chance.randrange(len(lines))] = _line(chance)
    return b"".join(lines)


def _swap(chance: random.Random, data: bytes) -> bytes:
    """Let the name and key id of one line stand before the signature of another."""
    lines = [line.split(b" ") for line in data.splitlines(keepends=True)]
    one, other = chance.sample(range(len(lines)), 2)
    lines[one][1], lines[other][1] = lines[other][1], lines[one][1]
    return b"".join(b" ".join(parts) for parts in lines)


MUTATIONS = [_bit, _bit, _byte, _cut, _insert, _drop_or_double, _add, _replace, _swap]


def _question() -> Question:
    return Question(LOG.note(SIZE), SIZE, LOG.proof, None, LOG.verifiers, 1.0, NOW)


def _open(witness: Witness, answer: bytes) -> Signature | None:
    """Return what is believed, or None; any error but ours gets out."""
    try:
        return verified_line(witness, _question(), answer)
    except (MalformedError, VerificationError):
        return None


@pytest.mark.parametrize("number", [0, 1], ids=["Ed25519", "ML-DSA-44"])
def test_only_its_own_word_for_this_tree_and_this_time(number: int) -> None:
    chance = random.Random(SEED)
    witness = Witness("w", SIGNERS[number].verifier, None)
    lines = [signer.sign(LOG.text(SIZE), NOW) for signer in (*SIGNERS, STRANGER)]
    answers = [b"".join(lines), b"".join(lines[::-1])]
    told: Counter[bool] = Counter()
    for step in range(COUNT // 2):
        answer = chance.choice(answers)
        mutate: Mutation = chance.choice(MUTATIONS)
        changed = mutate(chance, answer)
        believed = _open(witness, changed)
        told[believed is not None] += 1
        if believed is None:
            continue
        # Whatever else it holds: one line, its own, whole, over this very tree, now.
        seed = f"seed {SEED}, step {step}, {mutate.__name__}"
        assert believed.verifier == witness.verifier, seed
        assert believed.timestamp in {NOW, NOW + 10}, seed
        assert changed.count(believed.line) == 1, seed
        if believed.line != lines[number]:
            assert mutate in {_add, _replace}, seed
            assert _open(witness, believed.line) == believed, seed
    assert min(told.values()) > COUNT // 20, told
