"""Random changes to JSON evidence and to receipts, for every kind of anchor.

``MUTATIONS=100000`` makes as many, ``MUTATIONS_SEED`` others; a failure names the seed.
What is still accepted must say nothing that is not so: never an earlier time, another
party, or more parties; and what is refused is refused by an error of ours.
"""

import json
import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from auditlog.core.errors import AuditLogError
from tests.core.test_mutations import OF_BYTES, OF_FIELDS, spelled

__all__ = ["COUNT", "SEED", "mutate_bytes", "mutate_json", "survivors"]

COUNT = int(os.environ.get("MUTATIONS", "2000"))
SEED = int(os.environ.get("MUTATIONS_SEED", "5"))
_T = TypeVar("_T")


def mutate_bytes(chance: random.Random, data: bytes) -> bytes:
    """Return bytes with a bit, a byte or a range of them changed."""
    return chance.choice(OF_BYTES)(chance, data)


def mutate_json(chance: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return a JSON object with one to three parts changed.

    They are taken away, doubled, bent, or traded with those of others like it.
    """
    fields = json.loads(data)
    for _ in range(chance.choice([1, 1, 1, 2, 3])):
        try:
            other = json.loads(chance.choice(others))
            chance.choice(OF_FIELDS)(chance, fields, other)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            break  # an earlier change left nothing to change here
    return spelled(chance, fields)


def survivors(
    sources: Sequence[bytes],
    verify: Callable[[bytes], _T],
    hold: Callable[[_T], None],
    count: int = COUNT,
) -> Counter[str]:
    """Verify so many mutants, and hold what is still accepted against the truth.

    Args:
        sources: honest ones, each a JSON object.
        verify: raises errors of ours only.
        hold: fails where a verdict says more than is so.
        count: how many.

    Returns:
        How many ended how.
    """
    chance, ends = random.Random(SEED), Counter[str]()
    for number in range(count):
        data = chance.choice(sources)
        if chance.random() < 0.3:
            mutant = mutate_bytes(chance, data)
        else:
            mutant = mutate_json(chance, data, sources)
        try:
            hold(verify(mutant))
            ends["accepted"] += 1
        except AuditLogError as error:
            ends[type(error).__name__] += 1
        except BaseException as error:
            error.add_note(f"mutation {number} of seed {SEED}: {mutant!r}")
            raise
    return ends
